/**
 * What an operator does (`/v1/registry/admin`): decide held reputation changes, revoke, ban, export.
 *
 * Every action that changes something is noted with who, when and why in `admin_actions`, and with who, when and what in
 * the transparency log, in one transaction with the change. The reason stays out of the log: it is public for good.
 */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { REVOCATION_REASONS } from '@agentmesh/sdk/identity'
import type { FastifyInstance } from 'fastify'
import type { Transaction } from 'kysely'
import {
  AgentMeshError,
  AmidText,
  canonicalBytes,
  formatTimestamp,
  Timestamp,
  Score,
  type Amid,
  newMessageId,
  Type,
} from '@agentmesh/sdk/wire'
import { authorityOf } from '../authority/authority.ts'
import type { Context } from '../context.ts'
import { approveHeld, rejectHeld } from '../reputation/index.ts'
import { addRoute } from '../route.ts'
import type { StoredScore } from '../store/reputation-store.ts'
import type { Tables } from '../store/tables.ts'
import { agentSubject, BAN_SUBJECT, humanSubject, type BanScope } from './bans.ts'
import { exportPage } from './export.ts'

const PAGE = 100
const MAX_CURSOR_LENGTH = 256
const Reason = Type.String({
  minLength: 1,
  maxLength: 500,
  // PostgreSQL keeps no zero byte.
  pattern: '^[^\\u0000]*$',
  description: 'Why; kept, never published',
})
const Done = Type.Object({ done: Type.Literal(true) })
const Cursor = Type.Optional(Type.String({ maxLength: MAX_CURSOR_LENGTH }))

const HeldChange = Type.Object({
  amid: AmidText,
  published: Score,
  proposed: Score,
  reasons: Type.Array(Type.Enum(['rapid-rise', 'rapid-fall', 'mostly-unsupported'])),
  held_since: Timestamp,
  published_at: Type.String({ description: 'When it is published if nobody decides' }),
})
const ReviewPage = Type.Object({
  held: Type.Array(HeldChange),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
})
const DecideBody = Type.Object({
  amid: AmidText,
  decision: Type.Enum(['approve', 'reject']),
  reason: Reason,
})
const RevokeBody = Type.Object({ amid: AmidText, code: Type.Enum([...REVOCATION_REASONS]), reason: Reason })
const RevokeAnswer = Type.Object({ revoked: Type.Integer({ minimum: 0 }) })
const BanBody = Type.Object({ amid: AmidText, scope: Type.Enum(['agent', 'human']), reason: Reason })
const BanAnswer = Type.Object({ banned: Type.Array(Type.String()) })
const UnbanBody = Type.Object({
  subject: Type.String({ maxLength: 128, pattern: BAN_SUBJECT }),
  reason: Reason,
})
const ExportQuery = Type.Object(
  { kind: Type.Enum(['evidence', 'actions', 'bans']), cursor: Cursor },
  { additionalProperties: false },
)
const ExportPage = Type.Object({
  lines: Type.Array(Type.Record(Type.String(), Type.Unknown())),
  next_cursor: Type.Union([Type.String(), Type.Null()]),
})

export function addAdminRoutes(app: FastifyInstance, context: Context): void {
  const { store } = context
  const maxBytes = context.limits.maxBodyBytes

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'GET',
    url: '/v1/registry/admin/reviews',
    summary: 'Reputation changes held for review, longest first',
    query: Type.Object({ cursor: Cursor }, { additionalProperties: false }),
    answers: { 200: ReviewPage },
    handle: async ({ query }) => {
      const held = await store.reputation.held(parseReviewCursor(query.cursor), PAGE)
      const last = held.length === PAGE ? held.at(-1) : undefined
      const next = last?.hold === undefined ? null : `${last.hold.since} ${last.amid}`
      return { status: 200, body: { held: held.flatMap(heldChange), next_cursor: next } }
    },
  })

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'POST',
    url: '/v1/registry/admin/reviews',
    summary: 'Approve a held change (it is published) or reject it (its evidence is struck out)',
    body: DecideBody,
    maxBytes,
    answers: { 200: Done },
    handle: async ({ who, body }) => {
      const { amid, decision, reason } = body
      const now = context.now()
      const note = (tx: Transaction<Tables>, detail: object) =>
        noteAction(
          context,
          tx,
          { who, action: `review-${decision}`, target: agentSubject(amid), detail },
          now,
        )
      const decided =
        decision === 'approve'
          ? await approveHeld(context, amid, now, (tx) => note(tx, { reason }))
          : await rejectHeld(context, amid, now, (tx, sessions) => note(tx, { reason, sessions }))
      if (!decided) throw new AgentMeshError('NOT_FOUND', 'No change of this agent is held')
      return { status: 200, body: { done: true } }
    },
  })

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'POST',
    url: '/v1/registry/admin/revoke',
    summary: 'Revoke every certificate of an agent',
    body: RevokeBody,
    maxBytes,
    answers: { 200: RevokeAnswer },
    handle: async ({ who, body }) => {
      const now = context.now()
      const authority = authorityOf(context)
      const detail = { reason: body.reason, code: body.code }
      // Noted first: a revocation without a note would be one that nobody made.
      await store.transaction('note a revocation', (tx) =>
        noteAction(context, tx, { who, action: 'revoke', target: agentSubject(body.amid), detail }, now),
      )
      const revoked = await authority.revokeAgent(body.amid, body.code, now)
      return { status: 200, body: { revoked } }
    },
  })

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'POST',
    url: '/v1/registry/admin/bans',
    summary: 'Ban an agent, or the person behind it with all his agents',
    body: BanBody,
    maxBytes,
    answers: { 200: BanAnswer },
    handle: async ({ who, body }) => {
      const banned = await ban(context, { who, ...body })
      return { status: 200, body: { banned } }
    },
  })

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'POST',
    url: '/v1/registry/admin/bans/lift',
    summary: 'Lift a ban; the agent registers again by itself',
    body: UnbanBody,
    maxBytes,
    answers: { 200: Done },
    handle: async ({ who, body }) => {
      const now = context.now()
      const { subject, reason } = body
      await store.transaction('lift a ban', async (tx) => {
        if (!(await store.admin.unban(tx, subject)))
          throw new AgentMeshError('NOT_FOUND', 'There is no such ban')
        await noteAction(context, tx, { who, action: 'unban', target: subject, detail: { reason } }, now)
      })
      return { status: 200, body: { done: true } }
    },
  })

  addRoute(app, context, {
    tag: 'admin',
    signed: 'admin',
    perIp: 'adminPerIp',
    method: 'GET',
    url: '/v1/registry/admin/export',
    summary: 'Evidence, actions of operators or bans, page by page, oldest first',
    query: ExportQuery,
    answers: { 200: ExportPage },
    handle: async ({ query }) => ({
      status: 200,
      body: await exportPage(store, query.kind, query.cursor, PAGE),
    }),
  })
}

async function ban(
  context: Context,
  { who, amid, scope, reason }: { who: string; amid: Amid; scope: BanScope; reason: string },
): Promise<string[]> {
  const { store, people, authority } = context
  const now = context.now()
  const human = scope === 'human' ? await people.humanOf(amid) : undefined
  if (scope === 'human' && human === undefined) {
    throw new AgentMeshError('NOT_FOUND', 'No person is known behind this agent: ban the agent')
  }
  const agents = new Set([amid, ...(human === undefined ? [] : await people.agentsOfHuman(human))])
  const subjects = [...(human === undefined ? [] : [humanSubject(human)]), ...[...agents].map(agentSubject)]
  await store.transaction('ban', async (tx) => {
    for (const subject of subjects.toSorted())
      await store.admin.ban(tx, { subject, reason, at: now, by: who })
    const detail = { reason, scope, subjects }
    await noteAction(context, tx, { who, action: 'ban', target: agentSubject(amid), detail }, now)
  })
  for (const agent of agents) {
    await authority?.revokeAgent(agent, 'privilegeWithdrawn', now)
    await store.deleteAgent(agent)
  }
  return subjects
}

interface Action {
  readonly who: string
  readonly action: string
  readonly target: string
  readonly detail: object
}

async function noteAction(
  context: Context,
  tx: Transaction<Tables>,
  action: Action,
  now: number,
): Promise<void> {
  const { who, action: what, target, detail } = action
  await context.store.admin.note(tx, {
    id: newMessageId(systemRandom),
    at: now,
    who,
    action: what,
    target,
    detail: JSON.stringify(detail),
  })
  // Whose agents a person's are is nobody else's business.
  const named = target.startsWith('agent:') ? target : 'human'
  const entry = { type: 'admin_action', at: formatTimestamp(now), who, action: what, target: named }
  const content = canonicalBytes(entry)
  await context.store.transparency.append(tx, { kind: 'reputation', timestamp: now, content })
}

function heldChange(score: StoredScore) {
  const { amid, published, hold } = score
  if (hold === undefined) return []
  return [
    {
      amid,
      published,
      proposed: hold.proposed,
      reasons: [...hold.reasons],
      held_since: formatTimestamp(hold.since),
      published_at: formatTimestamp(hold.until),
    },
  ]
}

/** @throws MALFORMED */
function parseReviewCursor(text: string | undefined): { since: number; amid: string } | undefined {
  if (text === undefined) return undefined
  const [, since, amid] = /^(\d{1,15}) ([1-9A-HJ-NP-Za-km-z]{20,28})$/.exec(text) ?? []
  if (since === undefined || amid === undefined)
    throw new AgentMeshError('MALFORMED', 'The cursor is not valid')
  return { since: Number(since), amid }
}
