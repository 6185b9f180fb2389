/**
 * Prekeys: upload, count, and the bundle a KNOCK starts from (DESIGN §7, §7.1).
 *
 * Every key is checked to be its owner's before it is stored, though whoever fetches it checks again. A one-time key is
 * given out once. Who takes many gets bundles without them: refusing the bundle would let a stranger make an agent
 * unreachable, and giving on would let him use up the keys. The last few are for callers with standing, so that fresh AMIDs
 * cannot take those of everybody else.
 */
import type { FastifyInstance } from 'fastify'
import { verifyKeyRecord, verifyStateCounter } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  AmidText,
  Bundle,
  canonicalText,
  parseTimestamp,
  PrekeyCounts,
  PrekeyUpload,
  TIERS,
  tierRank,
  type Amid,
  type KeyKind,
  type Registration,
  type SignedKey,
  Type,
} from '@agentmesh/sdk/wire'
import { findAgent } from './agents.ts'
import { waitForShared, type Context } from './context.ts'
import { addRoute, type Visitor } from './route.ts'
import type { KeyInput, StoredAgent } from './store/store.ts'

const FetchBody = Type.Object({ amid: AmidText })

/** @throws NOT_REGISTERED: who is not in the registry cannot use it, which ties every limit to a registration */
async function checkRegistered(context: Context, amid: Amid): Promise<void> {
  if ((await context.store.getAgent(amid)) === undefined) throw new AgentMeshError('NOT_REGISTERED')
}

/** @throws what `verifyKeyRecord` throws; MALFORMED when an id stands twice */
function verifiedKeys(
  records: readonly SignedKey[],
  kind: KeyKind,
  visitor: Visitor,
  now: number,
): KeyInput[] {
  if (new Set(records.map((record) => record.id)).size !== records.length) {
    throw new AgentMeshError('MALFORMED', `Two ${kind} keys have one id`)
  }
  return records.map((record) => {
    verifyKeyRecord(record, visitor.publicKey, { kind, now })
    return {
      kind,
      id: record.id,
      sequence: record.sequence,
      expiresAt: parseTimestamp(record.expires_at),
      record: canonicalText(record),
    }
  })
}

function only(keys: readonly KeyInput[]): KeyInput {
  const [key] = keys
  if (key === undefined) throw new AgentMeshError('MALFORMED')
  return key
}

/** Verified, or here for a while: who makes AMIDs by the dozen has none that does. */
function hasStanding({ tier, registeredAt }: StoredAgent, { limits, now }: Context): boolean {
  return tierRank(tier) > TIERS.anonymous.rank || registeredAt + limits.standingSeconds * 1000 <= now()
}

async function fetchBundle(context: Context, visitor: Visitor, target: Amid): Promise<Bundle> {
  const { store } = context
  // An agent of another registry may knock here. One that is nowhere costs nothing to make, so it takes no one-time key.
  const caller = await store.getAgent(visitor.amid)
  const now = context.now()
  const { record } = await findAgent(context, target)
  const { public_keys: keys } = JSON.parse(record) as Registration
  // No KNOCK can be made with it, so no one-time key is spent on it.
  if (parseTimestamp(keys.exchange_key.expires_at) <= now) throw new AgentMeshError('PREKEYS_MISSING')
  const known = caller !== undefined && hasStanding(caller, context)
  const taker = known ? visitor.amid : visitor.address
  const oneTime =
    caller !== undefined &&
    (await waitForShared(context, 'oneTimePerPair', `${taker} ${target}`)) === 0 &&
    (await waitForShared(context, 'oneTimePerTarget', target)) === 0
  const leave = known ? 0 : context.limits.reservedOneTimePrekeys
  const stored = await store.takeBundle(target, oneTime, now, leave)
  if (stored === undefined) throw new AgentMeshError('PREKEYS_MISSING')
  const kemPrekey = JSON.parse(stored.kemPrekey) as SignedKey
  context.metrics.bundleGiven(kemPrekey.kind === 'pq-one' ? 'one-time' : 'last-resort')
  return {
    amid: target,
    signing_public_key: keys.signing_public_key,
    exchange_key: keys.exchange_key,
    signed_prekey: JSON.parse(stored.signedPrekey) as SignedKey,
    ...(stored.oneTimePrekey === undefined
      ? {}
      : { one_time_prekey: JSON.parse(stored.oneTimePrekey) as SignedKey }),
    kem_prekey: kemPrekey,
  }
}

export function addPrekeyRoutes(app: FastifyInstance, context: Context): void {
  const { limits, store } = context

  addRoute(app, context, {
    method: 'PUT',
    url: '/v1/registry/prekeys',
    tag: 'prekeys',
    summary: 'Replace the signed and last-resort prekeys and add one-time ones',
    signed: true,
    body: PrekeyUpload,
    maxBytes: limits.maxUploadBytes,
    perIp: 'uploadsPerIp',
    perAgent: 'uploadsPerAgent',
    answers: { 200: PrekeyCounts },
    handle: async ({ visitor, body }) => {
      // Before up to 202 signatures are checked.
      await checkRegistered(context, visitor.amid)
      const now = context.now()
      const { state_counter: stateCounter } = body
      if (stateCounter) verifyStateCounter(stateCounter, visitor.amid, visitor.publicKey)
      const stored = await store.putPrekeys(
        visitor.amid,
        {
          signed: only(verifiedKeys([body.signed_prekey], 'spk', visitor, now)),
          lastResort: only(verifiedKeys([body.last_resort_kem_prekey], 'pq-last', visitor, now)),
          oneTime: [
            ...verifiedKeys(body.one_time_prekeys, 'opk', visitor, now),
            ...verifiedKeys(body.one_time_kem_prekeys, 'pq-one', visitor, now),
          ],
          ...(stateCounter === undefined ? {} : { stateCounter }),
        },
        limits.maxOneTimePrekeys,
      )
      if (stored.outcome !== 'stored') {
        throw new AgentMeshError(stored.outcome === 'not-found' ? 'NOT_REGISTERED' : 'SEQUENCE_REPLAYED')
      }
      return { status: 200, body: stored.counts }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/prekeys',
    tag: 'prekeys',
    summary: 'How many one-time prekeys of the signer are left',
    signed: true,
    answers: { 200: PrekeyCounts },
    handle: async ({ visitor }) => {
      await checkRegistered(context, visitor.amid)
      return { status: 200, body: await store.countPrekeys(visitor.amid, context.now()) }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/prekeys/fetch',
    tag: 'prekeys',
    summary: 'Take the prekey bundle of an agent, with one key of each one-time kind',
    signed: true,
    body: FetchBody,
    maxBytes: limits.maxBodyBytes,
    perAgent: 'fetchesPerAgent',
    answers: { 200: Bundle },
    handle: async ({ visitor, body }) => ({
      status: 200,
      body: await fetchBundle(context, visitor, body.amid),
    }),
  })
}
