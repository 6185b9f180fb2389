/** What becomes of a message, stage by stage, with times, until its answer: for `send --wait`, `negotiate` and `why`. */
import type { AgentClient, MessageId, Payload, ProgressEvent } from '@agentmesh/sdk'
import { AgentMeshError, escapeText, isErrorCode } from '@agentmesh/sdk/wire'
import { EXIT, type ExitCode } from '../exit-codes.ts'
import { errorColor, fields, jsonLine, note, prettyJson, print, type Context } from '../output.ts'

import { saveAll } from './attachments.ts'

type Progress = AsyncIterable<ProgressEvent>

/**
 * Shows every stage of a message until it is answered.
 *
 * @param wait seconds
 * @param saveTo folder for the files of the answer
 * @returns the exit code for how it ended
 * @throws what the message failed with, WAIT_TIMEOUT
 */
export async function follow(
  context: Context,
  client: AgentClient,
  id: MessageId,
  wait: number,
  saveTo?: string,
): Promise<ExitCode> {
  const events = client.progress(id, AbortSignal.timeout(wait * 1000))
  const last = await (context.json ? streamProgress(id, events) : showProgress(id, events))
  if (saveTo !== undefined && last?.answer?.type === 'response') {
    const paths = await saveAll(client, last.answer.attachments ?? [], saveTo)
    if (context.json) print(jsonLine({ id, saved: paths }))
    else for (const path of paths) note(`saved ${escapeText(path)}`)
  }
  return finish(last, wait)
}

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
      note(`${mark(event)} ${errorColor.dim(event.at)} ${escapeText(describeStage(event))}`)
      spinner?.start('waiting')
      last = event
    }
  } finally {
    spinner?.stop()
  }
  if (last?.answer?.type === 'response') print(prettyJson(last.answer.payload.results))
  if (last?.answer?.type === 'capability_negotiation_response') print(describeOffer(last.answer.payload))
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
  read: 'read by the application',
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
  if (event.answer?.type === 'response') {
    const files = (event.answer.attachments ?? []).map(({ name, size }) => `${name} (${size} bytes)`)
    return [`${text}: ${event.answer.payload.status}`, ...files].join(', ')
  }
  if (event.stage === 'failed') return `${text}: ${event.code ?? ''} ${event.message ?? ''}`.trim()
  return text
}

function describeOffer(offer: Payload<'capability_negotiation_response'>): string {
  const list = (names: readonly string[]): string => names.join(', ') || '-'
  const others = Object.entries(offer.suggested_alternative ?? {}).map(
    ([name, { amid, display_name, reason }]): [string, string] => [
      `ask for ${name}`,
      [amid, display_name, reason].filter((part) => part !== undefined).join(', '),
    ],
  )
  return fields([
    ['matched', list(offer.matched)],
    ['unavailable', list(offer.unavailable)],
    ['schema', offer.agreed_schema ?? '-'],
    ['language', offer.agreed_language ?? '-'],
    ['payment', offer.agreed_payment_method ?? '-'],
    ...others,
  ])
}

/** The exit code for the last stage. @throws what the message failed with */
function finish(last: ProgressEvent | undefined, waited: number): ExitCode {
  if (last?.answer !== undefined) return last.answer.type === 'error' ? EXIT.peerError : EXIT.ok
  if (last?.stage === 'failed') {
    const code = last.code !== undefined && isErrorCode(last.code) ? last.code : 'MESSAGE_FAILED'
    throw new AgentMeshError(code, last.message, { operation: 'send' })
  }
  throw new AgentMeshError('WAIT_TIMEOUT', `No answer within ${waited} s; the message itself goes on`)
}
