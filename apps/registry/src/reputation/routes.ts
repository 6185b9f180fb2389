/** Reputation over HTTP (`/v1/registry/reputation`, specification §8.3, `spec/reputation.md`). */
import type { FastifyInstance } from 'fastify'
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import {
  closingBytes,
  ratee as rateeOf,
  signReputationCredential,
  verifyFeedback,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  AmidText,
  Feedback,
  FeedbackAnswer,
  formatTimestamp,
  parseAmid,
  parseKey,
  parseTimestamp,
  ReputationAnswer,
  ReputationCredential,
  toBase64,
  type Amid,
  type CloseReason,
  type Registration,
  Type,
} from '@agentmesh/sdk/wire'
import { findAgent } from '../agents.ts'
import { authorityOf } from '../authority/authority.ts'
import type { Context } from '../context.ts'
import { refuseBanned } from '../admin/bans.ts'
import { addRoute, type Visitor } from '../route.ts'
import type { StoredAgent } from '../store/store.ts'
import { CREDENTIAL_LIFE_MS, EVALUATION_DELAY_MS, FEEDBACK_WINDOW_MS } from './constants.ts'
import { isOneVoice, voiceOf, type Standing } from './people.ts'
import { startingTerms } from './score.ts'

const FINISHED: ReadonlySet<CloseReason> = new Set(['completed', 'error', 'timeout'])
/** Two signatures' worth of statement, tags, and room for fields of later versions. */
const MAX_FEEDBACK_BYTES = 4 * 1024

const STRANGER: Standing = { tier: 2 }

const ReputationQuery = Type.Object({ amid: AmidText }, { additionalProperties: false })

export function addReputationRoutes(app: FastifyInstance, context: Context): void {
  const { store } = context

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/reputation/feedback',
    tag: 'reputation',
    summary: 'Rate the other side of a session that both sides closed; once a side and session',
    signed: true,
    perIp: 'feedbackPerIp',
    perAgent: 'feedbackPerAgent',
    body: Feedback,
    maxBytes: MAX_FEEDBACK_BYTES,
    answers: { 200: FeedbackAnswer },
    handle: async ({ visitor, body, raw }) => ({
      status: 200,
      body: { closing: await takeFeedback(context, visitor, body, raw) },
    }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/reputation/credential',
    tag: 'reputation',
    summary: 'The registry’s signed word on the reputation of the agent that asks, to carry in a KNOCK',
    signed: true,
    answers: { 200: ReputationCredential },
    handle: async ({ visitor }) => {
      const { fingerprint, serviceKey } = authorityOf(context)
      const agent = await registered(context, visitor.amid)
      const score = await store.reputation.score(visitor.amid)
      const now = context.now()
      return {
        status: 200,
        body: signReputationCredential(serviceKey.secretKey, {
          registry: fingerprint,
          amid: agent.amid,
          score: agent.reputation,
          sessions: score?.sessions ?? 0,
          tier: agent.tier,
          issuedAt: now,
          expiresAt: now + CREDENTIAL_LIFE_MS,
        }),
      }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/reputation',
    tag: 'reputation',
    summary: 'An agent’s reputation: score, terms, and when it last changed',
    signed: false,
    query: ReputationQuery,
    answers: { 200: ReputationAnswer },
    handle: async ({ query }) => {
      const agent = await findAgent(context, parseAmid(query.amid))
      const score = await store.reputation.score(agent.amid)
      const answer: ReputationAnswer = {
        amid: agent.amid,
        score: agent.reputation,
        sessions: score?.sessions ?? 0,
        terms: score?.terms ?? startingTerms(agent.tier),
        changed_at: formatTimestamp(score?.changedAt ?? agent.registeredAt),
        held: score?.hold !== undefined,
      }
      return { status: 200, body: answer }
    },
  })
}

/** @throws NOT_REGISTERED */
async function registered(context: Context, amid: Amid): Promise<StoredAgent> {
  const agent = await context.store.getAgent(amid)
  if (agent === undefined) throw new AgentMeshError('NOT_REGISTERED')
  return agent
}

/**
 * The one who is rated is registered here. The rater need not be: an agent of another registry is nobody's that is known here,
 * and has the voice of an anonymous one, of which all together weigh no more than `ANONYMOUS_CAP`.
 *
 * @throws NOT_OWNER, AGENT_NOT_FOUND, what `verifyFeedback` throws, FEEDBACK_LATE, FEEDBACK_SELF, FEEDBACK_REPEATED,
 * CLOSING_CONFLICT, BANNED
 */
async function takeFeedback(
  context: Context,
  { amid: visitor, publicKey }: Visitor,
  body: Feedback,
  raw: unknown,
): Promise<string> {
  const { store, people } = context
  const now = context.now()
  if (body.rater !== visitor) throw new AgentMeshError('NOT_OWNER')
  await refuseBanned(context, visitor)
  const isRaterHere = (await store.getAgent(visitor)) !== undefined
  const ratee = await findAgent(context, rateeOf(body))
  const { closing } = body
  const other = signingKey(ratee)
  const keys =
    closing.initiator === visitor
      ? { initiator: publicKey, responder: other }
      : { initiator: other, responder: publicKey }
  const feedback = verifyFeedback(raw, keys, now)
  if (parseTimestamp(closing.closed_at) < now - FEEDBACK_WINDOW_MS) throw new AgentMeshError('FEEDBACK_LATE')

  const closedAt = parseTimestamp(closing.closed_at)
  const sidesBy = async (standingOf: (amid: Amid) => Promise<Standing>) => ({
    rater: { amid: visitor, standing: isRaterHere ? await standingOf(visitor) : STRANGER },
    ratee: { amid: ratee.amid, standing: await standingOf(ratee.amid) },
  })
  let both = await sidesBy((amid) => people.standingOf(amid))
  // Who was let in beside the rater after the session does not get rid of its rating: it counts as it did then.
  if (isOneVoice(both.rater, both.ratee))
    both = await sidesBy((amid) => people.standingAt(amid, closedAt, now))
  if (isOneVoice(both.rater, both.ratee)) throw new AgentMeshError('FEEDBACK_SELF')
  const sides = { rater: sideOf(both.rater), ratee: sideOf(both.ratee) }

  const statement = toBase64(sha256(closingBytes(feedback.closing)))
  await store.transaction('record feedback', (tx) =>
    store.reputation.record(tx, {
      sessionId: closing.session_id,
      statement,
      ...sides,
      isRaterHere,
      finished: FINISHED.has(closing.reason),
      completed: closing.reason === 'completed',
      rating: feedback.rating,
      tags: feedback.tags,
      now,
      dueAt: now + EVALUATION_DELAY_MS,
    }),
  )
  return statement
}

function sideOf({ amid, standing }: { readonly amid: Amid; readonly standing: Standing }) {
  return { amid, voice: voiceOf(amid, standing), tier: standing.tier }
}

/** From the record that the agent signed and the registry checked. */
function signingKey(agent: StoredAgent): Uint8Array {
  const record = JSON.parse(agent.record) as Registration
  return parseKey('ed25519', record.public_keys.signing_public_key)
}
