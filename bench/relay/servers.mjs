/**
 * The programs that are measured, each on the first core, and what the kernel says of them; the load generators are started
 * on the second. Debian's packages `nats-server` and `mosquitto` and `taskset` of util-linux are taken where they are.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const SERVER_CORE = '0'
const LOAD_CORE = '1'
const TICKS = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
/** Where Debian puts servers, which a user's PATH may leave out. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin`

/** @typedef {{ name: string, pid: number, port: number, webSocketPort?: number, child: import('node:child_process').ChildProcess }} Server */

/** @type {import('node:child_process').ChildProcess[]} */
const children = []

/** The version of a program, or undefined where it is not installed. @param {string} program @param {string} flag */
export function installed(program, flag) {
  try {
    return execFileSync(program, [flag], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH },
    })
      .split('\n', 1)[0]
      ?.trim()
  } catch (error) {
    // mosquitto tells its version only together with an exit code.
    const { stdout } = /** @type {{ stdout?: string }} */ (error)
    return stdout === undefined || stdout === '' ? undefined : stdout.split('\n', 1)[0]
  }
}

/**
 * @param {string} core
 * @param {readonly string[]} command
 * @param {{ ipc?: boolean, output?: boolean, env?: Record<string, string> }} [options]
 */
function start(core, command, { ipc = false, output = false, env = {} } = {}) {
  const child = spawn('taskset', ['-c', core, ...command], {
    stdio: ['ignore', output ? 'pipe' : 'ignore', 'inherit', ...(ipc ? [/** @type {const} */ ('ipc')] : [])],
    env: { ...process.env, PATH, ...env },
  })
  children.push(child)
  return child
}

/** @param {string} folder */
export async function startRelayServer(folder) {
  return startProgram('relay', ['relay-server.mjs', JSON.stringify({ dataPath: join(folder, 'relay.db') })])
}

/** One of several. @param {string} databaseUrl @param {string} natsUrl */
export async function startClusterRelay(databaseUrl, natsUrl) {
  return startProgram('relay', ['relay-server.mjs', JSON.stringify({ databaseUrl, natsUrl })])
}

export async function startForwarder() {
  return startProgram('forward', ['forward-server.mjs'])
}

/** @param {string} name @param {readonly string[]} command @returns {Promise<Server>} */
async function startProgram(name, [program = '', ...more]) {
  const file = fileURLToPath(new URL(program, import.meta.url))
  const child = start(SERVER_CORE, [process.execPath, file, ...more], { ipc: true, output: true })
  const output = child.stdout
  if (output === null) throw new Error('no output')
  const [line] = /** @type {[string]} */ (await once(createInterface({ input: output }), 'line'))
  return { name, pid: child.pid ?? 0, port: JSON.parse(line).port, child }
}

/** @param {string} folder @returns {Promise<Server>} */
export async function startNats(folder) {
  const port = await freePort()
  const webSocketPort = await freePort()
  const config = join(folder, 'nats.conf')
  writeFileSync(
    config,
    `host: 127.0.0.1\nport: ${port}\nwebsocket { host: 127.0.0.1, port: ${webSocketPort}, no_tls: true }\n`,
  )
  const child = start(SERVER_CORE, ['nats-server', '-c', config, '-l', join(folder, 'nats.log')], {
    env: { GOMAXPROCS: '1' },
  })
  await listening(webSocketPort)
  return { name: 'nats', pid: child.pid ?? 0, port, webSocketPort, child }
}

/** @param {string} folder @returns {Promise<Server>} */
export async function startMosquitto(folder) {
  const port = await freePort()
  const config = join(folder, 'mosquitto.conf')
  const data = join(folder, 'mosquitto')
  mkdirSync(data, { mode: 0o777 })
  writeFileSync(
    config,
    [
      `listener ${port} 127.0.0.1`,
      'allow_anonymous true',
      'user root',
      'persistence true',
      `persistence_location ${data}/`,
      'max_queued_messages 100000',
      'max_inflight_messages 1000',
      'set_tcp_nodelay true',
      'log_dest none',
      '',
    ].join('\n'),
  )
  const child = start(SERVER_CORE, ['mosquitto', '-c', config])
  await listening(port)
  return { name: 'mosquitto', pid: child.pid ?? 0, port, child }
}

/**
 * A load generator and a way to command it.
 * @param {string} kind
 * @param {readonly number[]} ports the first connection goes to the first, the next to the next, and so on
 */
export async function startLoad(kind, ...ports) {
  const program = fileURLToPath(new URL('load.mjs', import.meta.url))
  const child = start(LOAD_CORE, [process.execPath, program, kind, '127.0.0.1', ports.join(',')], {
    ipc: true,
  })
  await once(child, 'message')
  /** @type {(answer: Record<string, number>) => void} */
  let onAnswer = () => {}
  child.on('message', (answer) => onAnswer(/** @type {Record<string, number>} */ (answer)))
  const ended = new Promise((_, reject) => {
    child.on('exit', () => reject(new Error(`the load of ${kind} ended`)))
  })
  // Ended on purpose it interrupts nobody.
  ended.catch(() => {})
  const ask = async (/** @type {object} */ command) => {
    const answer = new Promise((resolve) => {
      onAnswer = resolve
    })
    child.send(command)
    return /** @type {Record<string, number>} */ (await Promise.race([answer, ended]))
  }
  return { ask, end: async () => end(child) }
}

/** @param {Server} server @param {string} question */
export async function askServer({ child }, question) {
  const answer = once(child, 'message')
  child.send(question)
  return (await answer)[0]
}

/** Processor time of a process so far, in microseconds. @param {Server} server */
export function processorTime({ pid }) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  // utime and stime are fields 14 and 15 of the line, counted from the state, field 3.
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / TICKS
}

/** Resident memory in bytes. @param {Server} server */
export function residentMemory({ pid }) {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes) * 1024
}

/** What Prometheus would read. @param {Server} server */
export async function scrape({ port }) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  return (/** @type {string} */ name) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
}

/** @param {import('node:child_process').ChildProcess} child */
async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

export async function endAll() {
  await Promise.all(children.map(end))
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return address !== null && typeof address === 'object' ? address.port : 0
}

/** @param {number} port */
async function listening(port) {
  for (let tries = 0; tries < 200; tries++) {
    const open = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => resolve(true) && socket.destroy())
      socket.on('error', () => resolve(false))
    })
    if (open) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`nothing listens at ${port}`)
}
