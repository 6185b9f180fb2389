/**
 * `up`: starts the daemon of a home.
 *
 *   up               starts `up --foreground` detached, waits for its word over IPC, prints the status
 *   up --foreground  is the daemon; says `ready` when its API answers and `online` when peers can reach it
 *
 * In the background its stderr goes to `daemon.log` in the home (0600).
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, fchmodSync, ftruncateSync, fstatSync, openSync, closeSync } from 'node:fs'
import {
  AgentMeshError,
  childEnvironment,
  escapeText,
  isAgentMeshError,
  isErrorCode,
  runDaemon,
  type Agent,
  type Notice,
} from '@agentmesh/sdk'
import { Home } from '@agentmesh/sdk/identity'
import { jsonLine, note, print, show, type Context } from '../output.ts'
import { describe } from './daemon.ts'
import { describeNewAgent, makeAgent, type NewAgent } from './init.ts'
import { clientOf, COMMAND, homePath, readPassphrase, unlessDown } from './shared.ts'

export interface UpOptions {
  foreground?: boolean
  passphrasePrompt?: boolean
}

/** What the daemon tells whoever started it. */
type DaemonWord =
  | { event: 'ready'; stays_offline: boolean }
  | { event: 'online' }
  | { event: 'failed'; code: string; message: string }

/** What the daemon is told first: the environment of a process can be read for as long as it runs. */
interface FirstWord {
  passphrase?: string | undefined
}

const PASSPHRASE_BY_IPC = 'AGENTMESH_PASSPHRASE_BY_IPC'
const LOG_FILE = 'daemon.log'
const MAX_LOG_BYTES = 1024 * 1024
/** Opening keys under Argon2id takes seconds on a small machine. */
const READY_SECONDS = 60
/** A daemon that is not online by then is running all the same, and goes on trying. */
const ONLINE_SECONDS = 5

export async function up(context: Context, options: UpOptions): Promise<void> {
  if (options.foreground === true) return foreground(context, options)
  const client = clientOf(context)
  const running = await unlessDown(client.status())
  if (running !== undefined) {
    show(context, { ...running, already_running: true }, (state) => `Already running.\n${describe(state)}`)
    return
  }
  const passphrase = await readPassphrase(options)
  const made = makeWhenEmpty(homePath(context), passphrase)
  await startDetached(homePath(context), passphrase)
  const state = await client.status()
  const words = made === undefined ? {} : { recovery_words: made.recovery_words }
  show(context, { ...state, ...words }, () =>
    [...(made === undefined ? [] : [describeNewAgent(made), '']), describe(state)].join('\n'),
  )
}

function makeWhenEmpty(path: string, passphrase: string | undefined): NewAgent | undefined {
  const home = Home.create(path)
  if (home.has('keys') || home.has('config.json')) return undefined
  return makeAgent(path, {}, passphrase)
}

async function foreground(context: Context, options: UpOptions): Promise<void> {
  const passphrase = await (process.env[PASSPHRASE_BY_IPC] === undefined
    ? readPassphrase(options)
    : passphraseFromParent())
  try {
    const made = makeWhenEmpty(homePath(context), passphrase)
    if (made !== undefined) show(context, made, describeNewAgent)
    await runDaemon({
      home: homePath(context),
      ...(passphrase === undefined ? {} : { passphrase }),
      onReady: (agent) => announce(context, agent),
    })
  } catch (error) {
    if (isAgentMeshError(error)) tell({ event: 'failed', code: error.code, message: error.message })
    throw error
  }
}

async function passphraseFromParent(): Promise<string | undefined> {
  delete process.env[PASSPHRASE_BY_IPC]
  const [word] = (await once(process, 'message')) as [FirstWord]
  return word.passphrase
}

function announce(context: Context, agent: Agent): void {
  const say = (event: 'ready' | 'online'): void => {
    const state = agent.status()
    if (process.send !== undefined) {
      tell(event === 'ready' ? { event, stays_offline: state.relay.state === 'stopped' } : { event })
    } else if (context.json) print(jsonLine({ event, ...state }))
    else if (event === 'ready') print(describe(state))
    else print(`online as ${state.amid}`)
  }
  const tellNotice = ({ at, about, text }: Notice): void => note(escapeText(`${at} ${about}: ${text}`))
  // What was found while the agent opened is told too.
  for (const notice of agent.status().notices) tellNotice(notice)
  agent.events.on('notice', tellNotice)
  say('ready')
  const whenOnline = (): void => {
    if (!agent.online) return
    agent.events.off('connection', whenOnline)
    say('online')
  }
  agent.events.on('connection', whenOnline)
  whenOnline()
}

function tell(word: DaemonWord): void {
  if (process.connected) process.send?.(word)
}

/** Resolves when the daemon's API answers, and a little later when it is online soon. @throws what the daemon failed with */
async function startDetached(home: string, passphrase: string | undefined): Promise<void> {
  const log = openLog(home)
  const child = spawn(
    process.execPath,
    [...process.execArgv, COMMAND, 'up', '--foreground', '--home', home],
    {
      detached: true,
      stdio: ['ignore', log, log, 'ipc'],
      env: { ...childEnvironment(process.env), [PASSPHRASE_BY_IPC]: '1' },
    },
  )
  child.send({ passphrase } satisfies FirstWord)
  closeSync(log)
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new AgentMeshError('WAIT_TIMEOUT', `The daemon is not ready; see ${LOG_FILE}`)),
        READY_SECONDS * 1000,
      )
      const finish = (end: () => void) => () => {
        clearTimeout(timer)
        end()
      }
      child.on('error', (cause) =>
        finish(() =>
          reject(new AgentMeshError('DAEMON_NOT_RUNNING', 'It could not be started', { cause })),
        )(),
      )
      child.on(
        'exit',
        finish(() => reject(new AgentMeshError('DAEMON_NOT_RUNNING', `It ended; see ${LOG_FILE}`))),
      )
      child.on('message', (word: DaemonWord) => {
        if (word.event === 'failed') {
          const code = isErrorCode(word.code) ? word.code : 'INTERNAL'
          finish(() => reject(new AgentMeshError(code, word.message)))()
        } else if (word.event === 'online' || word.stays_offline) finish(resolve)()
        else setTimeout(finish(resolve), ONLINE_SECONDS * 1000).unref()
      })
    })
  } finally {
    child.removeAllListeners()
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function openLog(home: string): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | (constants.O_NOFOLLOW ?? 0)
  const handle = openSync(Home.open(home).file(LOG_FILE), flags, 0o600)
  fchmodSync(handle, 0o600)
  if (fstatSync(handle).size > MAX_LOG_BYTES) ftruncateSync(handle)
  return handle
}
