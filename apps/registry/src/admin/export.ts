/** Pages of what an operator may take away, each row one line of JSON. A cursor is the place of the last row. */
import { AgentMeshError, formatTimestamp } from '@agentmesh/sdk/wire'
import type { Store } from '../store/store.ts'
import { BAN_SUBJECT } from './bans.ts'

export interface ExportPage {
  readonly lines: Record<string, unknown>[]
  readonly next_cursor: string | null
}

/** @throws MALFORMED for a cursor that is none */
export async function exportPage(
  store: Store,
  kind: 'evidence' | 'actions' | 'bans',
  cursor: string | undefined,
  limit: number,
): Promise<ExportPage> {
  if (kind === 'bans') {
    if (cursor !== undefined && !new RegExp(BAN_SUBJECT).test(cursor)) throw badCursor()
    const bans = await store.admin.bans(cursor ?? '', limit)
    const lines = bans.map((ban) => ({ ...ban, at: formatTimestamp(ban.at) }))
    return { lines, next_cursor: bans.length < limit ? null : (bans.at(-1)?.subject ?? null) }
  }
  const after = parsePlace(cursor)
  if (kind === 'actions') {
    const actions = await store.admin.actions({ at: after.at, id: after.key }, limit)
    const lines = actions.map((action) => ({
      ...action,
      at: formatTimestamp(action.at),
      detail: JSON.parse(action.detail) as unknown,
    }))
    const last = actions.length < limit ? undefined : actions.at(-1)
    return { lines, next_cursor: last === undefined ? null : `${last.at} ${last.id}` }
  }
  const evidence = await store.reputation.evidence(after, limit)
  const lines = evidence.map(({ received_at, tags, finished, completed, struck, ...row }) => ({
    ...row,
    finished: finished === 1,
    completed: completed === 1,
    struck: struck === 1,
    tags: tags === '' ? [] : tags.split(' '),
    received_at: formatTimestamp(received_at),
  }))
  const last = evidence.length < limit ? undefined : evidence.at(-1)
  const next =
    last === undefined ? null : `${last.received_at} ${last.ratee} ${last.rater} ${last.session_id}`
  return { lines, next_cursor: next }
}

function parsePlace(text: string | undefined): { at: number; key: string } {
  if (text === undefined) return { at: -1, key: '' }
  const [, at, key] = /^(\d{1,15}) ([0-9A-Za-z -]{1,128})$/.exec(text) ?? []
  if (at === undefined || key === undefined) throw badCursor()
  return { at: Number(at), key }
}

function badCursor(): AgentMeshError {
  return new AgentMeshError('MALFORMED', 'The cursor is not valid')
}
