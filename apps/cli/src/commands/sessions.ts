/** `sessions` and `session show|close|rate|kill|export`. */
import { constants, openSync, closeSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { SessionDetail, SessionSummary } from '@agentmesh/sdk'
import {
  AgentMeshError,
  escapeText,
  FEEDBACK_TAGS,
  formatIntent,
  parseSessionId,
  utf8Bytes,
} from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { color, fields, prettyJson, show, table, type Context } from '../output.ts'
import { clientOf, homePath } from './shared.ts'

export async function sessions(context: Context): Promise<void> {
  show(context, await clientOf(context).sessions(), (list) =>
    list.length === 0
      ? 'No sessions.'
      : table(
          ['session', 'peer', 'intent', 'type', 'state', 'sent', 'received', 'last activity'],
          list.map(row),
        ),
  )
}

function row(session: SessionSummary): string[] {
  return [
    session.session_id,
    `${session.role === 'initiator' ? '->' : '<-'} ${session.peer}`,
    formatIntent(session.intent),
    session.type,
    session.close_reason === undefined ? session.state : `closed: ${session.close_reason}`,
    String(session.messages_sent),
    String(session.messages_received),
    session.last_activity_at,
  ]
}

export async function sessionShow(context: Context, id: string): Promise<void> {
  show(context, await clientOf(context).session(parseSessionId(id)), describe)
}

function describe(session: SessionDetail): string {
  const messages = session.messages.map((message) => {
    const receipts = Object.entries(message.receipts ?? {})
    const times = receipts.map(([state, at]) => `${state} ${at}`).join(', ')
    const arrow = message.direction === 'out' ? color.cyan('->') : color.green('<-')
    const head = `${arrow} ${message.at} ${message.type} ${color.dim(message.id)}`
    return [
      head,
      prettyJson(message.payload, '   '),
      ...(times === '' ? [] : [color.dim(`   ${times}`)]),
    ].join('\n')
  })
  return [
    fields([
      ['session', session.session_id],
      ['peer', `${session.peer}, ${session.role === 'initiator' ? 'we knocked' : 'they knocked'}`],
      ['tier', [session.peer_tier, session.peer_organization ?? ''].join(' ').trim()],
      ['intent', formatIntent(session.intent)],
      ['type', session.type],
      ['state', session.close_reason === undefined ? session.state : `closed: ${session.close_reason}`],
      ['created', session.created_at],
      ['expires', session.expires_at],
      [
        'one-time prekey',
        session.one_time_prekey_used ? 'used' : 'none was left: secrecy rests on weekly keys',
      ],
    ]),
    ...messages,
  ].join('\n')
}

export async function sessionKill(context: Context, id: string): Promise<void> {
  const session = parseSessionId(id)
  await clientOf(context).killSession(session)
  show(context, { session_id: session, killed: true }, () => `Session ${session} has ended.`)
}

export async function sessionClose(context: Context, id: string): Promise<void> {
  const session = parseSessionId(id)
  await clientOf(context).closeSession(session, { reason: 'completed' })
  show(context, { session_id: session, closed: true }, () => `Session ${session} is closed.`)
}

/** The registry learns that the two agents talked, and how the owner found it: nothing of what it was about. */
export async function sessionRate(
  context: Context,
  id: string,
  rating: number,
  words: readonly string[],
): Promise<void> {
  const session = parseSessionId(id)
  const tags = words.map((word) => {
    const tag = FEEDBACK_TAGS.find((known) => known === word)
    if (tag === undefined) throw new UsageError(`--tag is one of ${FEEDBACK_TAGS.join(', ')}`)
    return tag
  })
  await clientOf(context).rateSession(session, rating, tags)
  show(context, { session_id: session, rating, tags }, () => `The rating is on its way to the registry.`)
}

export interface ExportOptions {
  output?: string
  keys?: boolean
}

/** A file named by the owner is never written over; the one in the home is the latest export. */
export async function sessionExport(context: Context, id: string, options: ExportOptions): Promise<void> {
  const keys = options.keys === true
  const detail = await clientOf(context).exportSession(parseSessionId(id), { keys })
  const content = utf8Bytes(`${JSON.stringify(detail, null, 2)}\n`)
  let file: string
  if (options.output === undefined) {
    const { Home } = await import('@agentmesh/sdk/identity')
    const home = Home.open(homePath(context))
    const name = `sessions/${detail.peer}/${detail.session_id}.json`
    home.writeFile(name, content)
    file = home.file(name)
  } else {
    file = resolve(options.output)
    writeNew(file, content)
  }
  const result = { session_id: detail.session_id, file, messages: detail.messages.length, keys }
  const warning = keys ? ' It holds the keys of the session: keep it as you keep a password.' : ''
  show(context, result, () => `${result.messages} messages are in ${escapeText(file)}.${warning}`)
}

function writeNew(file: string, content: Uint8Array): void {
  let handle: number
  try {
    handle = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code === 'EEXIST' ? 'exists already' : 'cannot be written'
    throw new AgentMeshError('HOME_FAILED', `${file} ${why}`, { operation: 'export a session', cause })
  }
  try {
    writeFileSync(handle, content)
  } finally {
    closeSync(handle)
  }
}
