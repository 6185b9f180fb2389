/** `agentmesh send`: a request to a peer, and with `--wait` everything that becomes of it until the answer. */
import {
  AgentMeshError,
  DEFAULT_MAX_MESSAGE_BYTES,
  escapeText,
  Intent,
  isErrorCode,
  parseAmid,
  parseIntent,
  parseJsonObject,
  parseMessageId,
  RequestPayload,
  SchemaName,
  SessionType,
  validate,
  type ProgressEvent,
} from '@agentmesh/sdk'
import { EXIT, UsageError, type ExitCode } from '../exit-codes.ts'
import { errorColor, jsonLine, note, prettyJson, print, show, type Context } from '../output.ts'
import { clientOf, readStdin } from './shared.ts'

export interface SendCommandOptions {
  intent: string
  action?: string
  params?: string
  type?: string
  budget?: string
  schema?: string
  id?: string
  expires?: number
  wait?: number
}

export async function send(context: Context, amid: string, options: SendCommandOptions): Promise<void> {
  const to = parseAmid(amid)
  const sessionType =
    options.type === undefined ? undefined : validate(SessionType, options.type, 'read --type')
  const id = options.id === undefined ? undefined : parseMessageId(options.id)
  const request = await requestFrom(options)
  const client = clientOf(context)
  const sent = await client.send(to, request, {
    ...(id === undefined ? {} : { id }),
    ...(sessionType === undefined ? {} : { sessionType }),
    ...(options.expires === undefined ? {} : { expiresInSeconds: Math.ceil(options.expires) }),
  })
  if (options.wait === undefined) {
    show(context, { id: sent }, () => sent)
    return
  }
  const signal = AbortSignal.timeout(options.wait * 1000)
  const last = await (context.json
    ? streamProgress(sent, client.progress(sent, signal))
    : showProgress(sent, client.progress(sent, signal)))
  process.exitCode = finish(last, options.wait)
}

async function requestFrom(options: SendCommandOptions): Promise<RequestPayload> {
  const { budget, schema } = options
  const text = options.params === '-' ? await readStdin(DEFAULT_MAX_MESSAGE_BYTES) : (options.params ?? '{}')
  return validate(
    RequestPayload,
    {
      intent: intentFrom(options.intent, options.action),
      parameters: parseJsonObject(text, DEFAULT_MAX_MESSAGE_BYTES),
      ...(budget === undefined ? {} : { budget: budgetFrom(budget) }),
      ...(schema === undefined
        ? {}
        : { response_format: { type: 'structured', schema: validate(SchemaName, schema, 'read --schema') } }),
    },
    'read the request',
  )
}

/** @throws MALFORMED for what is no category of the taxonomy, or not in form */
export function intentFrom(text: string, action?: string): Intent {
  return validate(
    Intent,
    { ...parseIntent(text), ...(action === undefined ? {} : { action }) },
    'read --intent',
  )
}

function budgetFrom(text: string): { max: number; currency: string } {
  const [, max, currency] = /^(\d{1,12}(?:\.\d{1,6})?):([A-Za-z]{3,10})$/.exec(text) ?? []
  if (max === undefined || currency === undefined)
    throw new UsageError('--budget is MAX:CURRENCY, such as 500:EUR')
  return { max: Number(max), currency }
}

type Progress = AsyncIterable<ProgressEvent>

async function streamProgress(id: string, events: Progress): Promise<ProgressEvent | undefined> {
  let last: ProgressEvent | undefined
  for await (const event of events) {
    print(jsonLine({ id, ...event }))
    last = event
  }
  return last
}

/** Stages as lines on stderr; in a terminal the stage to come turns below them. */
async function showProgress(id: string, events: Progress): Promise<ProgressEvent | undefined> {
  let last: ProgressEvent | undefined
  // A terminal that does not know its width (0) sends the spinner into an endless loop.
  const animated = process.stderr.isTTY && process.stderr.columns > 0
  const spinner = animated ? (await import('ora')).default({ stream: process.stderr }) : undefined
  note(errorColor.dim(`request ${id}`))
  try {
    for await (const event of events) {
      spinner?.stop()
      note(`${mark(event)} ${escapeText(describeStage(event))}`)
      spinner?.start('waiting')
      last = event
    }
  } finally {
    spinner?.stop()
  }
  if (last?.answer?.type === 'response') print(prettyJson(last.answer.payload.results))
  return last
}

function mark({ stage, answer }: ProgressEvent): string {
  const bad = stage === 'failed' || stage === 'rejected' || answer?.type === 'error'
  return bad ? errorColor.red('x') : stage === 'answered' ? errorColor.green('=') : errorColor.cyan('-')
}

const STAGES: Readonly<Record<ProgressEvent['stage'], string>> = {
  queued: 'safe on disk',
  looked_up: 'found in the registry',
  knocked: 'knocked',
  accepted: 'let in',
  rejected: 'refused',
  sent: 'handed over by the relay',
  stored: 'waiting in the mailbox of the peer',
  delivered: 'received by the agent',
  read: 'read by the program that answers',
  status: 'working on it',
  answered: 'answered',
  failed: 'failed',
}

export function describeStage(event: ProgressEvent): string {
  const text = STAGES[event.stage]
  if (event.status !== undefined) {
    const { status, progress, message, estimated_completion_seconds: left } = event.status
    const percent = progress === undefined ? '' : ` ${Math.round(progress * 100)}%`
    return [`${status}${percent}`, message, left === undefined ? undefined : `about ${left} s left`]
      .filter((part) => part !== undefined)
      .join(', ')
  }
  if (event.reject !== undefined) {
    const { reason, human_readable, retry_after_seconds } = event.reject
    const retry = retry_after_seconds === null ? '' : ` Try again in ${retry_after_seconds} s.`
    return `${text}: ${reason}. ${human_readable}${retry}`
  }
  if (event.answer?.type === 'error') {
    const { code, message } = event.answer.payload
    return `${text} with an error: ${code}: ${message}`
  }
  if (event.answer?.type === 'response') return `${text}: ${event.answer.payload.status}`
  if (event.stage === 'failed') return `${text}: ${event.code ?? ''} ${event.message ?? ''}`.trim()
  return text
}

/** The exit code for the last stage. @throws what the message failed with */
function finish(last: ProgressEvent | undefined, waited: number): ExitCode {
  if (last?.answer !== undefined) return last.answer.type === 'response' ? EXIT.ok : EXIT.peerError
  if (last?.stage === 'failed') {
    const code = last.code !== undefined && isErrorCode(last.code) ? last.code : 'MESSAGE_FAILED'
    throw new AgentMeshError(code, last.message, { operation: 'send' })
  }
  throw new AgentMeshError('WAIT_TIMEOUT', `No answer within ${waited} s; the message itself goes on`)
}
