/**
 * One run of the owner's answering program (`listen --exec`).
 *
 *   running --(exit 0, JSON on stdout)--> answered
 *      |  \--(exit != 0, no JSON, too much output, too long)--> failed      the peer gets HANDLER_FAILED, the owner why
 *      +-----(session over, listen ending)--> ended                         nobody waits for an answer
 *
 * The program runs through the shell, because the command is the owner's own command line. It is a process group of its
 * own, so that what it started dies with it. Its stderr is ours.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { AnswerInput, IncomingRequest, JsonObject, JsonValue, StatusPayload } from '@agentmesh/sdk'
import { isAgentMeshError, parseJson, PAYLOADS, validate } from '@agentmesh/sdk/wire'
import { programEnvironment } from './program-environment.ts'

import { namedFiles } from '../commands/attachments.ts'

/** What a peer is told when the program gave no answer: nothing about the owner's machine. */
export const HANDLER_FAILED = {
  error: { code: 'HANDLER_FAILED', message: 'The agent failed to answer this request' },
} as const satisfies AnswerInput

export type Outcome =
  | { readonly kind: 'answered'; readonly answer: AnswerInput }
  | { readonly kind: 'failed'; readonly answer: AnswerInput; readonly why: string }
  | { readonly kind: 'ended'; readonly why: string }

export interface AnswerProgram {
  /** Never rejects. */
  readonly outcome: Promise<Outcome>
  /** Kills the program; its outcome is `ended`. */
  end(why: string): void
}

export interface ProgramOptions {
  readonly timeoutSeconds: number
  /** Variables that go on from our environment, beside those that every program gets. */
  readonly variables: readonly string[]
  readonly onStatus: (status: StatusPayload) => void
  /** Where its files are in clear, in their order. */
  readonly paths?: readonly string[]
}

/** An answer travels in one message, so more than this could not be sent anyway. */
export const MAX_OUTPUT_BYTES = 1024 * 1024

export function startProgram(
  command: string,
  request: IncomingRequest,
  { timeoutSeconds, variables, onStatus, paths = [] }: ProgramOptions,
): AnswerProgram {
  const child = spawn(command, {
    shell: true,
    detached: process.platform !== 'win32',
    stdio: ['pipe', 'pipe', 'inherit'],
    env: programEnvironment(process.env, variables, request),
  })
  const output = new Output(onStatus)
  let stopped: { kind: 'failed' | 'ended'; why: string } | undefined
  const stop = (kind: 'failed' | 'ended', why: string): void => {
    stopped ??= { kind, why }
    kill(child)
  }
  const timer = setTimeout(
    () => stop('failed', `no answer within ${timeoutSeconds} s`),
    timeoutSeconds * 1000,
  )

  const outcome = new Promise<Outcome>((resolve) => {
    const settle = (result: () => Outcome): void => {
      clearTimeout(timer)
      // What it left running in its group ends with it.
      kill(child)
      resolve(result())
    }
    child.on('error', (error) => settle(() => failed(`could not be started: ${error.message}`)))
    child.on('close', (code, signal) =>
      settle(() => {
        if (stopped?.kind === 'ended') return { kind: 'ended', why: stopped.why }
        if (stopped !== undefined) return failed(stopped.why)
        if (code !== 0) return failed(`ended with ${signal ?? `exit code ${code}`}`)
        return readAnswer(output.text())
      }),
    )
  })
  child.stdout.on('data', (chunk: Buffer) => {
    if (!output.take(chunk)) stop('failed', `more than ${MAX_OUTPUT_BYTES} bytes of output`)
  })
  // A program need not read its request.
  child.stdin.on('error', () => {})
  const attachments = request.attachments?.map(({ handle, name, media_type, size, sha256 }, at) => ({
    handle,
    name,
    media_type,
    size,
    sha256,
    path: paths[at],
  }))
  const shown = attachments === undefined ? request : { ...request, attachments }
  child.stdin.end(`${JSON.stringify(shown)}\n`)
  return { outcome, end: (why) => stop('ended', why) }
}

function failed(why: string): Outcome {
  return { kind: 'failed', answer: HANDLER_FAILED, why }
}

function kill(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    if (process.platform === 'win32') child.kill('SIGKILL')
    else process.kill(-child.pid, 'SIGKILL')
  } catch {
    // The group is gone.
  }
}

/** Stdout as it comes: status lines are passed on, everything else is the answer. */
class Output {
  readonly #onStatus: (status: StatusPayload) => void
  readonly #answer: Buffer[] = []
  #line: Buffer[] = []
  #size = 0

  constructor(onStatus: (status: StatusPayload) => void) {
    this.#onStatus = onStatus
  }

  /** False when it is too much. */
  take(chunk: Buffer): boolean {
    this.#size += chunk.length
    if (this.#size > MAX_OUTPUT_BYTES) return false
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#line.push(chunk.subarray(start, end + 1))
      this.#endLine()
      start = end + 1
    }
    this.#line.push(chunk.subarray(start))
    return true
  }

  #endLine(): void {
    const line = Buffer.concat(this.#line)
    this.#line = []
    const status = statusIn(line.toString())
    if (status === undefined) this.#answer.push(line)
    else this.#onStatus(status)
  }

  text(): string {
    return Buffer.concat([...this.#answer, ...this.#line]).toString()
  }
}

/** A line that is a status and nothing else. */
function statusIn(line: string): StatusPayload | undefined {
  if (!line.trimStart().startsWith('{')) return undefined
  try {
    const value = parseJson(line, MAX_OUTPUT_BYTES)
    if (!isObject(value) || 'results' in value || 'error' in value) return undefined
    return validate(PAYLOADS.status, value)
  } catch (error) {
    if (isAgentMeshError(error)) return undefined
    throw error
  }
}

function readAnswer(text: string): Outcome {
  try {
    const value = parseJson(text, MAX_OUTPUT_BYTES)
    if (!isObject(value)) return { kind: 'answered', answer: { results: value } }
    if ('error' in value) {
      return { kind: 'answered', answer: { error: validate(PAYLOADS.error, value['error']) } }
    }
    if (!('results' in value)) return { kind: 'answered', answer: { results: value } }
    return { kind: 'answered', answer: withFiles(value) }
  } catch (error) {
    if (isAgentMeshError(error)) return failed(`its output is no answer: ${error.code}: ${error.message}`)
    throw error
  }
}

/** An answer as it was printed; the files it names are by path. @throws MALFORMED */
export function withFiles({ attachments, ...answer }: JsonObject): AnswerInput {
  const files = attachments === undefined ? {} : { attachments: namedFiles(attachments) }
  return { ...answer, ...files } as unknown as AnswerInput
}

function isObject(value: JsonValue): value is { [key: string]: JsonValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
