/** A real coturn for tests, and a TURN client of a few lines: STUN messages over TCP (RFC 8489), ALLOCATE (RFC 8656). */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'

/** Under CI a test that needs it runs and fails; elsewhere it is skipped by name. */
export const turnMissing =
  process.env['CI'] !== 'true' && spawnSync('turnserver', ['--help']).error !== undefined

export class TestTurn {
  readonly port: number
  readonly #child: ChildProcess

  private constructor(port: number, child: ChildProcess) {
    this.port = port
    this.#child = child
  }

  /** Resolves when it takes connections. */
  static async start(folder: string, port: number, secret: string): Promise<TestTurn> {
    const options = `-n --listening-ip 127.0.0.1 --relay-ip 127.0.0.1 --listening-port ${port} --realm turn.test --use-auth-secret
      --static-auth-secret ${secret} --userdb ${join(folder, 'turndb')} --pidfile ${join(folder, 'turn.pid')}
      --log-file ${join(folder, 'turn.log')} --simple-log --no-cli --no-tls --no-dtls --allow-loopback-peers`
    return TestTurn.run(port, options.split(/\s+/))
  }

  /** @param args that say where it listens, too */
  static async run(port: number, args: readonly string[]): Promise<TestTurn> {
    const child = spawn('turnserver', args, { stdio: 'ignore' })
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`turnserver ended with ${String(code)}`)
    })
    ended.catch(() => {})
    const turn = new TestTurn(port, child)
    await Promise.race([turn.#reachable(), ended])
    return turn
  }

  async #reachable(): Promise<void> {
    for (;;) {
      const socket = connect(this.port, '127.0.0.1')
      const [state] = await Promise.race([
        once(socket, 'connect').then(() => ['open']),
        once(socket, 'close').then(() => ['closed']),
      ]).catch(() => ['closed'])
      socket.destroy()
      if (state === 'open') return
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

const MAGIC = 0x2112a442
const ALLOCATE = 0x0003
const ALLOCATED = 0x0103
const ATTRIBUTE = {
  username: 0x06,
  integrity: 0x08,
  error: 0x09,
  realm: 0x14,
  nonce: 0x15,
  transport: 0x19,
  relayed: 0x16,
}
/** UDP, RFC 8656 §18.8. */
const UDP = Buffer.from([17, 0, 0, 0])

/**
 * Asks a TURN server for an allocation.
 *
 * @returns the port that is relayed, or the code of the refusal
 */
export async function allocate(
  port: number,
  { username, password }: { username: string; password: string },
): Promise<{ relayedPort: number } | { refused: number }> {
  const socket = connect(port, '127.0.0.1')
  try {
    // The first request brings realm and nonce (RFC 8489 §9.2).
    const first = await exchange(socket, [[ATTRIBUTE.transport, UDP]])
    const realm = first.attributes.get(ATTRIBUTE.realm)!
    const nonce = first.attributes.get(ATTRIBUTE.nonce)!
    const key = createHash('md5').update(`${username}:${realm.toString()}:${password}`).digest()
    const second = await exchange(
      socket,
      [
        [ATTRIBUTE.transport, UDP],
        [ATTRIBUTE.username, Buffer.from(username)],
        [ATTRIBUTE.realm, realm],
        [ATTRIBUTE.nonce, nonce],
      ],
      key,
    )
    if (second.type !== ALLOCATED) {
      const error = second.attributes.get(ATTRIBUTE.error)!
      return { refused: error[2]! * 100 + error[3]! }
    }
    const address = second.attributes.get(ATTRIBUTE.relayed)!
    return { relayedPort: address.readUInt16BE(2) ^ (MAGIC >>> 16) }
  } finally {
    socket.destroy()
  }
}

type Attribute = readonly [number, Buffer]

function header(length: number, transaction: Buffer): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16BE(ALLOCATE, 0)
  bytes.writeUInt16BE(length, 2)
  bytes.writeUInt32BE(MAGIC, 4)
  return Buffer.concat([bytes, transaction])
}

function encode([type, value]: Attribute): Buffer {
  const bytes = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4)
  bytes.writeUInt16BE(type, 0)
  bytes.writeUInt16BE(value.length, 2)
  value.copy(bytes, 4)
  return bytes
}

async function exchange(socket: Socket, attributes: readonly Attribute[], key?: Buffer) {
  const transaction = randomBytes(12)
  let body = Buffer.concat(attributes.map(encode))
  if (key !== undefined) {
    // The length covers the integrity attribute that is being made (RFC 8489 §14.5).
    const covered = Buffer.concat([header(body.length + 24, transaction), body])
    body = Buffer.concat([
      body,
      encode([ATTRIBUTE.integrity, createHmac('sha1', key).update(covered).digest()]),
    ])
  }
  socket.write(Buffer.concat([header(body.length, transaction), body]))
  let answer = Buffer.alloc(0)
  while (answer.length < 20 || answer.length < 20 + answer.readUInt16BE(2)) {
    const [chunk] = (await once(socket, 'data')) as [Buffer]
    answer = Buffer.concat([answer, chunk])
  }
  const found = new Map<number, Buffer>()
  for (let at = 20; at + 4 <= answer.length;) {
    const length = answer.readUInt16BE(at + 2)
    found.set(answer.readUInt16BE(at), answer.subarray(at + 4, at + 4 + length))
    at += 4 + Math.ceil(length / 4) * 4
  }
  return { type: answer.readUInt16BE(0), attributes: found }
}
