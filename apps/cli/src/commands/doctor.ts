/** `agentmesh doctor`: everything that could keep an agent from working, each with what to do about it. */
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import {
  CLOCK_SKEW_SECONDS,
  escapeText,
  isAgentMeshError,
  localApiPath,
  parsePolicy,
  POLICY_FILE,
  readConfig,
  utf8Text,
  type Config,
} from '@agentmesh/sdk'
import { Home, readPublicIdentity } from '@agentmesh/sdk/identity'
import { EXIT } from '../exit-codes.ts'
import { color, show, type Context } from '../output.ts'
import { clientOf, homePath, unlessDown } from './shared.ts'

interface Check {
  readonly name: string
  readonly state: 'ok' | 'warn' | 'fail'
  readonly detail: string
  readonly advice?: string
}

const MIN_NODE = [20, 19] as const
const PROBE_MS = 3_000
/** `sun_path` of a Unix socket, with its end. */
const MAX_SOCKET_PATH = process.platform === 'darwin' ? 103 : 107
const OTHERS = 0o077

export async function doctor(context: Context): Promise<void> {
  const checks = [checkNode(), ...(await checkAgent(context))]
  const ok = checks.every(({ state }) => state !== 'fail')
  show(context, { ok, checks }, () => checks.map(describe).join('\n'))
  if (!ok) process.exitCode = EXIT.failure
}

function describe({ name, state, detail, advice }: Check): string {
  const mark = { ok: color.green('ok  '), warn: color.yellow('warn'), fail: color.red('fail') }[state]
  const line = `${mark}  ${name.padEnd(12)} ${escapeText(detail)}`
  return advice === undefined ? line : `${line}\n        ${escapeText(advice)}`
}

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const fine = major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1])
  const detail = `Node ${process.versions.node}`
  const advice = `AgentMesh needs Node ${MIN_NODE.join('.')} or newer.`
  return fine ? { name: 'node', state: 'ok', detail } : { name: 'node', state: 'fail', detail, advice }
}

async function checkAgent(context: Context): Promise<Check[]> {
  let home: Home
  try {
    home = Home.open(homePath(context))
  } catch (error) {
    return [failure('home', error, 'Make an agent with `agentmesh init`, or `chmod 700` the folder.')]
  }
  const checks = [checkHome(home), checkIdentity(home), checkPolicy(home)]
  let config: Config | undefined
  try {
    config = readConfig(home)
    checks.push({ name: 'config', state: 'ok', detail: 'config.json is valid' })
  } catch (error) {
    checks.push(failure('config', error, 'Correct config.json in the home.'))
  }
  checks.push(...(await checkDaemon(context, home)))
  if (config !== undefined) {
    checks.push(...(await probe('registry', config.registry)))
    for (const relay of config.relays) checks.push(...(await probe('relay', relay.replace(/^ws/, 'http'))))
  }
  return checks
}

function failure(name: string, error: unknown, advice: string): Check {
  if (!isAgentMeshError(error)) throw error
  return { name, state: 'fail', detail: `${error.code}: ${error.message}`, advice }
}

function checkHome(home: Home): Check {
  const open = [home.path, ...contents(home.path)].filter(isOpen)
  if (open.length === 0) return { name: 'home', state: 'ok', detail: `${home.path}, for its owner only` }
  return {
    name: 'home',
    state: 'fail',
    detail: `links, or open to others: ${open.slice(0, 5).join(', ')}`,
    advice:
      'chmod 700 folders and 600 files; replace links. A key that others could read is no secret any more.',
  }
}

function contents(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? [path, ...contents(path)] : [path]
  })
}

function isOpen(path: string): boolean {
  if (process.platform === 'win32') return false
  const stats = lstatSync(path, { throwIfNoEntry: false })
  return stats !== undefined && (stats.isSymbolicLink() || (stats.mode & OTHERS) !== 0)
}

function checkIdentity(home: Home): Check {
  try {
    return { name: 'identity', state: 'ok', detail: readPublicIdentity(home).amid }
  } catch (error) {
    return failure(
      'identity',
      error,
      'Make one with `agentmesh init`, or put the keys folder back from a backup.',
    )
  }
}

function checkPolicy(home: Home): Check {
  try {
    const bytes = home.readFile(POLICY_FILE)
    if (bytes !== undefined) parsePolicy(utf8Text(bytes))
    return {
      name: 'policy',
      state: 'ok',
      detail: bytes === undefined ? 'the default' : `${POLICY_FILE} is valid`,
    }
  } catch (error) {
    return failure('policy', error, 'Correct the line with `agentmesh policy edit`.')
  }
}

async function checkDaemon(context: Context, home: Home): Promise<Check[]> {
  const status = await unlessDown(clientOf(context).status())
  const socket = localApiPath(home.path)
  if (status === undefined) {
    const checks: Check[] = [
      { name: 'daemon', state: 'warn', detail: 'not running', advice: 'Start it with `agentmesh up`.' },
    ]
    const holder = lockHolder(home)
    if (holder !== undefined) {
      const advice = 'If it is no agent of yours, it is an old record; the next `agentmesh up` decides.'
      checks.push({ name: 'lock', state: 'warn', detail: `process ${holder} is on record as holder`, advice })
    }
    if (process.platform !== 'win32' && Buffer.byteLength(socket) > MAX_SOCKET_PATH) {
      const advice = `Choose a home whose path is shorter; ${socket} is too long for a Unix socket.`
      checks.push({ name: 'socket', state: 'fail', detail: 'the path of the home is too long', advice })
    }
    return checks
  }
  const checks: Check[] = [{ name: 'daemon', state: 'ok', detail: `process ${status.pid}` }]
  if (process.platform !== 'win32') {
    const mode = statSync(socket).mode & 0o777
    checks.push(
      mode === 0o600
        ? { name: 'socket', state: 'ok', detail: 'mode 0600' }
        : {
            name: 'socket',
            state: 'fail',
            detail: `mode ${mode.toString(8)}`,
            advice: `chmod 600 ${socket}`,
          },
    )
  }
  const holder = lockHolder(home)
  checks.push(
    holder === status.pid
      ? { name: 'lock', state: 'ok', detail: `held by process ${holder}` }
      : {
          name: 'lock',
          state: 'fail',
          detail: `on record is ${holder ?? 'nobody'}`,
          advice: 'agentmesh down, then up',
        },
  )
  if (status.breaker !== 'running') {
    checks.push({
      name: 'breaker',
      state: 'warn',
      detail: status.breaker,
      advice: '`agentmesh resume` undoes it.',
    })
  }
  return checks
}

/** Who the lock's record names; informational, the lock itself is held by the operating system. */
function lockHolder(home: Home): number | undefined {
  try {
    const { pid } = JSON.parse(readFileSync(join(home.path, 'lock.json'), 'utf8')) as { pid?: unknown }
    return typeof pid === 'number' ? pid : undefined
  } catch {
    return undefined
  }
}

/** Is the server there, and does its clock agree? Signatures are refused beyond the protocol's skew. */
async function probe(name: string, url: string): Promise<Check[]> {
  let response: Response
  const asked = Date.now()
  try {
    response = await fetch(new URL('/healthz', url), {
      signal: AbortSignal.timeout(PROBE_MS),
      redirect: 'manual',
    })
    await response.body?.cancel()
  } catch (error) {
    const why =
      error instanceof Error ? ((error.cause as Error | undefined)?.message ?? error.message) : String(error)
    const advice = `Is it running, and is the address in config.json right? \`agentmesh ${name}\` starts one here.`
    return [{ name, state: 'fail', detail: `${url} does not answer: ${why}`, advice }]
  }
  const reached: Check = response.ok
    ? { name, state: 'ok', detail: `${url} answers` }
    : { name, state: 'fail', detail: `${url} answers ${response.status}`, advice: 'Ask its operator.' }
  return [reached, clockCheck(name, response.headers.get('date'), asked)]
}

function clockCheck(server: string, date: string | null, asked: number): Check {
  const name = 'clock'
  const theirs = date === null ? Number.NaN : Date.parse(date)
  if (Number.isNaN(theirs))
    return { name, state: 'warn', detail: `the ${server} sends no date`, advice: 'Nothing to do.' }
  const skew = Math.round((theirs - asked) / 1000)
  const detail = `${Math.abs(skew)} s ${skew < 0 ? 'ahead of' : 'behind'} the ${server}`
  if (Math.abs(skew) <= CLOCK_SKEW_SECONDS / 10) return { name, state: 'ok', detail }
  const advice = `Set this machine's clock: beyond ${CLOCK_SKEW_SECONDS} s nothing we sign is taken.`
  return { name, state: Math.abs(skew) > CLOCK_SKEW_SECONDS ? 'fail' : 'warn', detail, advice }
}
