/** TLS by files: both servers serve it, take a new pair while connections are open, and keep the old one when the new is bad. */
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { startRegistry } from '@agentmesh/registry'
import { startRelay } from '@agentmesh/relay'
import { binaryCodec } from '@agentmesh/sdk/wire'
import { TestRoot, type TestCertificate } from '../support/tls-files.ts'
import { Program } from '../support/processes.ts'

let folder: string
let root: TestRoot
/** What the server reads. */
let files: TestCertificate
const pairs: Record<string, TestCertificate> = {}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-tls-'))
  root = new TestRoot(folder)
  for (const name of ['first', 'second', 'other']) pairs[name] = root.issue(name)
  pairs['expired'] = root.issue('expired', { from: '200101000000Z', until: '210101000000Z' })
  pairs['early'] = root.issue('early', { from: '480101000000Z', until: '490101000000Z' })
  files = { certificate: join(folder, 'server.pem'), key: join(folder, 'server.key') }
})
afterAll(() => rmSync(folder, { recursive: true }))
beforeEach(() => install('first', 'first'))

/** As renewal does it: each file is replaced, not written over. */
function install(certificate: string, key: string): void {
  for (const [from, to] of [
    [pairs[certificate]!.certificate, files.certificate],
    [pairs[key]!.key, files.key],
  ] as const) {
    copyFileSync(from, `${to}.new`)
    renameSync(`${to}.new`, to)
  }
}

class Log {
  readonly #lines: string[] = []
  #waiting: (() => void)[] = []
  readonly add = (_facts: object, message: string) => {
    this.#lines.push(message)
    for (const look of this.#waiting) look()
  }
  async says(text: RegExp): Promise<void> {
    while (!this.#lines.some((line) => text.test(line))) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }
}

/** The name in the certificate a new connection is shown, checked against the root. */
async function shownBy(port: number): Promise<string> {
  const socket = await open(port)
  const { subject } = socket.getPeerCertificate()
  socket.destroy()
  return String(subject.CN)
}

async function open(port: number): Promise<TLSSocket> {
  const socket = connect({ port, host: '127.0.0.1', ca: root.pem, servername: 'localhost' })
  await once(socket, 'secureConnect')
  return socket
}

function get(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { ca: root.pem, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

const relayOf = (log: Log, limits = {}) =>
  startRelay({
    dataPath: ':memory:',
    tls: files,
    limits: { closeGraceMs: 100, ...limits },
    logger: { debug: log.add, info: log.add, warn: log.add, error: log.add },
  })

test('a relay serves wss and https, and keeps its connections over a reload', async () => {
  const log = new Log()
  const relay = await relayOf(log)
  try {
    expect(relay.url).toBe(`wss://127.0.0.1:${relay.port}`)
    expect(await get(`https://127.0.0.1:${relay.port}/healthz`)).toBe(200)
    const agent = new WebSocket(`${relay.url}/v1/connect`, binaryCodec.subprotocol, { ca: root.pem })
    const [hello] = (await once(agent, 'message')) as [Buffer]
    expect(binaryCodec.decodeFromRelay(hello)).toMatchObject({ frame: 'HELLO' })
    expect(await shownBy(relay.port)).toBe('first')

    install('second', 'second')
    await log.says(/certificate read again/)
    expect(await shownBy(relay.port)).toBe('second')
    agent.ping()
    await once(agent, 'pong')
    agent.terminate()
  } finally {
    await relay.close()
  }
})

test('sockets that never finish their handshake are counted, and cut off in time', async () => {
  const log = new Log()
  const relay = await relayOf(log, { preAuthSocketsPerIp: 1, connectTimeoutMs: 300 })
  try {
    const { Socket } = await import('node:net')
    const silent = new Socket().connect(relay.port, '127.0.0.1')
    await once(silent, 'connect')
    // The second of that address gets no answer at all.
    await expect(open(relay.port)).rejects.toThrow(/disconnected|ECONNRESET|hang up/)
    await once(silent, 'close')
    expect(await shownBy(relay.port)).toBe('first')
  } finally {
    await relay.close()
  }
})

describe('a pair that cannot be taken', () => {
  test.each([
    ['a key of another certificate', () => install('second', 'other')],
    ['an expired certificate', () => install('expired', 'expired')],
    ['a certificate of the future', () => install('early', 'early')],
    [
      'half a file',
      () => writeFileSync(files.certificate, readFileSync(files.certificate, 'utf8').slice(0, 300)),
    ],
    ['no key', () => rmSync(files.key)],
  ])('leaves the old one in force: %s', async (_name, spoil) => {
    const log = new Log()
    const relay = await relayOf(log)
    try {
      spoil()
      relay.reload()
      await log.says(/new certificate refused; the old one stays/)
      expect(await shownBy(relay.port)).toBe('first')
      install('second', 'second')
      await log.says(/certificate read again/)
      expect(await shownBy(relay.port)).toBe('second')
    } finally {
      await relay.close()
    }
  })

  test.each([
    ['a key of another certificate', 'second', 'other', /do not belong together/],
    ['an expired certificate', 'expired', 'expired', /expired on/],
    ['a certificate of the future', 'early', 'early', /holds from .* only/],
  ])('keeps a server from starting: %s', async (_name, certificate, key, message) => {
    install(certificate, key)
    const refused = { code: 'CONFIG_INVALID', message: expect.stringMatching(message) as string }
    await expect(startRelay({ dataPath: ':memory:', tls: files })).rejects.toMatchObject(refused)
    await expect(startRegistry({ dataPath: ':memory:', tls: files })).rejects.toMatchObject(refused)
  })
})

test('a registry serves https, and a process reads its pair again on SIGHUP', async () => {
  const args = 'apps/registry/dist/main.js --port 0 --data :memory:'.split(' ')
  const program = new Program([...args, '--tls-certificate', files.certificate, '--tls-key', files.key])
  const { url, port } = await program.ready<{ url: string; port: number }>()
  expect(url).toBe(`https://127.0.0.1:${port}`)
  expect(await get(`${url}/readyz`)).toBe(200)
  expect(await shownBy(port)).toBe('first')
  install('second', 'second')
  process.kill(program.pid, 'SIGHUP')
  while ((await shownBy(port)) !== 'second');
  await program.end()
  expect(program.exitCode).toBe(0)
})
