/**
 * `agentmesh listen`: how any program joins. What a peer sent reaches it as JSON on stdin, as data with its provenance,
 * never in an argument or a variable (DESIGN §9).
 */
import { createInterface } from 'node:readline'
import type { AgentClient, AnswerInput, ErrorCode, IncomingRequest, StatusPayload } from '@agentmesh/sdk'
import { AgentMeshError, escapeText, isAgentMeshError, parseJsonObject } from '@agentmesh/sdk/wire'
import { HANDLER_FAILED, withFiles, type AnswerProgram } from '../listen/answer-program.ts'
import { requireProgramVariables } from '../listen/program-environment.ts'
import { requestStream } from '../listen/request-stream.ts'
import { color, jsonLine, note, print, type Context } from '../output.ts'
import { EXIT, UsageError } from '../exit-codes.ts'
import { openFiles, removeLeftFiles } from './attachments.ts'
import { clientOf } from './shared.ts'

export interface ListenOptions {
  exec?: string
  /** Names of variables for the program. */
  env?: readonly string[]
  timeout?: number
}

const DEFAULT_TIMEOUT_SECONDS = 60
/** Programs that run at once; further requests wait for one to end. */
const MAX_PROGRAMS = 8
/** The largest answer line read from stdin. */
const MAX_LINE_BYTES = 1024 * 1024
/** Answers kept for a daemon that went away before it took them; it asks again when it is back. */
const MAX_KEPT = 64

/** The daemon is gone, or back and has not handed the request out again. */
const AWAY_CODES: ReadonlySet<ErrorCode> = new Set(['DAEMON_NOT_RUNNING', 'MESSAGE_UNKNOWN'])

const WAITING = 'Waiting for requests.'
const AWAY = 'The daemon went away; waiting for it.'

export async function listen(context: Context, options: ListenOptions): Promise<void> {
  if (options.env !== undefined && options.exec === undefined) throw new UsageError('--env goes with --exec')
  requireProgramVariables(options.env ?? [])
  const client = clientOf(context)
  const stop = new AbortController()
  let interrupted = false
  const interrupt = (): void => {
    interrupted = true
    stop.abort()
  }
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  try {
    if (options.exec === undefined) await listenOnStdin(client, stop)
    else await listenWithProgram(context, client, options.exec, options, stop)
  } catch (error) {
    if (!stop.signal.aborted) throw error
    if (interrupted) process.exitCode = EXIT.ok
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
    process.stdin.destroy()
  }
}

// --- requests out, answers in, as lines ---------------------------------------------------------------------------

async function listenOnStdin(client: AgentClient, stop: AbortController): Promise<void> {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    if (line.trim() !== '') void answerLine(client, line)
  })
  // Nobody can answer any more: the requests that are open go back to the daemon.
  lines.on('close', () => stop.abort())
  for await (const event of requestStream(client, stop.signal)) {
    if (event.type === 'ready') note(WAITING)
    else if (event.type === 'disconnected') note(AWAY)
    else if (event.type === 'request') print(jsonLine({ handle: event.handle, ...event.request }))
    else if (event.type === 'cancelled') print(jsonLine({ cancelled: event.handle }))
    else return
  }
}

async function answerLine(client: AgentClient, line: string): Promise<void> {
  try {
    const { handle, ...answer } = parseJsonObject(line, MAX_LINE_BYTES)
    if (typeof handle !== 'string') throw new AgentMeshError('MALFORMED', 'An answer names its handle')
    if ('results' in answer || 'error' in answer) await client.answer(handle, withFiles(answer))
    else await client.requestStatus(handle, answer as unknown as StatusPayload)
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    note(jsonLine({ error: { code: error.code, message: error.message } }))
  }
}

// --- a program for each request ------------------------------------------------------------------------------------

async function listenWithProgram(
  context: Context,
  client: AgentClient,
  command: string,
  { timeout, env = [] }: ListenOptions,
  stop: AbortController,
): Promise<void> {
  const { startProgram } = await import('../listen/answer-program.ts')
  await removeLeftFiles(context)
  const waiting: IncomingRequest[] = []
  const running = new Map<string, AnswerProgram>()
  /** Their files are being copied. */
  const starting = new Set<string>()
  const kept = new Map<string, AnswerInput>()
  /** The newest of each request: the daemon draws another when it hands one out again. */
  const handles = new Map<string, string>()
  const log = (event: string, request: IncomingRequest, detail = ''): void =>
    context.json
      ? print(jsonLine({ event, id: request.id, from: request.from, ...(detail === '' ? {} : { detail }) }))
      : note(`${color.dim(request.id)} ${event} ${escapeText(detail)}`.trimEnd())

  const run = async (request: IncomingRequest): Promise<void> => {
    starting.add(keyOf(request))
    const files = await openFiles(context, client, request.attachments ?? [])
      .catch(async (error: unknown) => {
        await give(request, HANDLER_FAILED)
        throw error
      })
      .finally(() => starting.delete(keyOf(request)))
    const program = startProgram(command, request, {
      paths: files.paths,
      timeoutSeconds: timeout ?? DEFAULT_TIMEOUT_SECONDS,
      variables: env,
      onStatus: (status) => {
        client
          .requestStatus(handles.get(keyOf(request)) ?? '', status)
          .catch((error: unknown) => note(reason(error)))
      },
    })
    running.set(keyOf(request), program)
    log('request', request, `from ${request.from}`)
    try {
      const outcome = await program.outcome
      running.delete(keyOf(request))
      if (outcome.kind === 'ended') {
        handles.delete(keyOf(request))
        return log('ended', request, outcome.why)
      }
      log(outcome.kind, request, outcome.kind === 'failed' ? outcome.why : '')
      await give(request, outcome.answer)
    } finally {
      await files.remove()
    }
  }
  const give = async (request: IncomingRequest, answer: AnswerInput): Promise<void> => {
    try {
      await deliver(client, handles.get(keyOf(request)) ?? '', answer)
      handles.delete(keyOf(request))
    } catch (error) {
      if (!isAgentMeshError(error) || !AWAY_CODES.has(error.code)) throw error
      const [oldest] = kept.keys()
      if (oldest !== undefined && kept.size >= MAX_KEPT) kept.delete(oldest)
      kept.set(keyOf(request), answer)
    }
  }
  /** Handed out again by a daemon that was restarted: the work that was done or is under way is not done twice. */
  const isKnown = (request: IncomingRequest): boolean => {
    const key = keyOf(request)
    const answer = kept.get(key)
    if (answer === undefined)
      return running.has(key) || starting.has(key) || waiting.some((other) => keyOf(other) === key)
    kept.delete(key)
    give(request, answer).catch((error: unknown) => note(reason(error)))
    return true
  }
  const next = (): void => {
    while (running.size + starting.size < MAX_PROGRAMS) {
      const request = waiting.shift()
      if (request === undefined) return
      run(request)
        .catch((error: unknown) => note(reason(error)))
        .finally(next)
    }
  }
  const endAll = async (): Promise<void> => {
    waiting.length = 0
    const programs = [...running.values()]
    for (const program of programs) program.end('listen is ending')
    await Promise.all(programs.map(({ outcome }) => outcome))
  }

  try {
    for await (const event of requestStream(client, stop.signal)) {
      if (event.type === 'ready' || event.type === 'disconnected') {
        // What no program has begun is handed out again.
        if (event.type === 'disconnected')
          for (const request of waiting.splice(0)) handles.delete(keyOf(request))
        if (context.json) print(jsonLine({ event: event.type }))
        else note(event.type === 'ready' ? WAITING : AWAY)
      } else if (event.type === 'request') {
        handles.set(keyOf(event.request), event.handle)
        if (isKnown(event.request)) continue
        waiting.push(event.request)
        next()
      } else if (event.type === 'cancelled') {
        const [cancelled] = [...handles].find(([, handle]) => handle === event.handle) ?? []
        if (cancelled === undefined) continue
        const place = waiting.findIndex((request) => keyOf(request) === cancelled)
        if (place >= 0) waiting.splice(place, 1)
        running.get(cancelled)?.end('its session ended')
        handles.delete(cancelled)
      } else {
        note('Emergency stop.')
        return
      }
    }
  } finally {
    await endAll()
  }
}

/** Senders choose the ids of their requests, so two may choose the same. */
function keyOf({ from, id }: IncomingRequest): string {
  return `${from}:${id}`
}

/** An answer the daemon does not take (too large, not JSON that can be carried) is told to the peer as a failure. */
async function deliver(client: AgentClient, handle: string, answer: AnswerInput): Promise<void> {
  try {
    await client.answer(handle, answer)
  } catch (error) {
    if (!isAgentMeshError(error) || error.code === 'MESSAGE_UNKNOWN') throw error
    note(reason(error))
    await client.answer(handle, HANDLER_FAILED)
  }
}

function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return escapeText(isAgentMeshError(error) ? `${error.code}: ${text}` : text)
}
