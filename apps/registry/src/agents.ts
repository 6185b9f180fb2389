/**
 * Agents: register, update, deregister, look up, presence, DID document (specification §2.3, §3.1, §3.3).
 *
 * The registry stores what the agent signed and adds what it speaks for itself: tier, presence, times, reputation. A
 * reader can check all the rest without trusting it.
 */
import type { FastifyInstance } from 'fastify'
import { amidFromDid, didDocument, verifyRegistration } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  AgentRecord,
  AmidText,
  canonicalText,
  DidDocument,
  formatTimestamp,
  parseAmid,
  PresenceState,
  Registration,
  UNSIGNED_RECORD_FIELDS,
  type Amid,
  type JsonObject,
  type TierNumber,
  Type,
} from '@agentmesh/sdk/wire'
import { refuseBanned } from './admin/bans.ts'
import type { Context } from './context.ts'
import { addRoute, type Answer, type Visitor } from './route.ts'
import type { CapabilityRow } from './store/agent-input.ts'
import type { StoredAgent } from './store/store.ts'

/** Nobody registers at a higher one: tiers are verified, not claimed. */
const TIER: TierNumber = 2

const AmidPath = Type.Object({ amid: AmidText })
const LookupQuery = Type.Object({ amid: AmidText }, { additionalProperties: false })
const PresenceBody = Type.Object({ state: PresenceState })

/** The state that still holds: without a sign of life an agent is offline, whatever it said last. */
export function effectivePresence(
  agent: Pick<StoredAgent, 'presence' | 'lastSeen'>,
  onlineSince: number,
): PresenceState {
  return agent.lastSeen >= onlineSince ? agent.presence : 'offline'
}

/** A lookup or search answer as JSON: the signed record as it is stored, and what the registry says of the agent. */
export function agentText(agent: StoredAgent, onlineSince: number): string {
  const presence = effectivePresence(agent, onlineSince)
  const said = JSON.stringify({
    tier: agent.tier,
    presence,
    online: presence !== 'offline',
    last_seen: formatTimestamp(agent.lastSeen),
    registered_at: formatTimestamp(agent.registeredAt),
    reputation_score: agent.reputation,
    ...(agent.verifiedName === null ? {} : { verified_name: agent.verifiedName }),
    ...(agent.organization === null ? {} : { organization: agent.organization }),
  } satisfies Partial<AgentRecord>)
  // No field stands twice: these were taken out before the record was stored.
  return `${agent.record.slice(0, -1)},${said.slice(1)}`
}

/** Agents seen before this time count as offline. */
function presenceHorizon(context: Context): number {
  return context.now() - context.limits.presenceSeconds * 1000
}

/** @throws AGENT_NOT_FOUND */
export async function findAgent(context: Context, amid: Amid): Promise<StoredAgent> {
  const agent = await context.store.getAgent(amid)
  if (agent === undefined) throw new AgentMeshError('AGENT_NOT_FOUND')
  return agent
}

/** @throws NOT_OWNER */
function checkOwner(visitor: Visitor, amid: string): void {
  if (visitor.amid !== amid) throw new AgentMeshError('NOT_OWNER')
}

/** A row for every way to ask for a capability: with and without its subcategory's actions. */
function capabilityRows(capabilities: Registration['capabilities']): CapabilityRow[] {
  return capabilities.flatMap((capability) => {
    if (typeof capability === 'string') return [{ category: capability, subcategory: '', action: '' }]
    const { category, subcategory = '', actions = [] } = capability
    return ['', ...actions].map((action) => ({ category, subcategory, action }))
  })
}

/**
 * @throws TIER_UNAVAILABLE, NOT_OWNER, BANNED, what `verifyRegistration` throws, SEQUENCE_REPLAYED, AGENT_NOT_FOUND, REGISTRY_FULL
 */
async function putAgent(
  context: Context,
  visitor: Visitor,
  body: Registration,
  raw: JsonObject,
  create: boolean,
): Promise<Answer> {
  const now = context.now()
  if ((body.tier !== undefined && body.tier !== TIER) || typeof body.verification_token === 'string') {
    throw new AgentMeshError(
      'TIER_UNAVAILABLE',
      'A tier is not registered but verified: register with tier 2 and no verification_token, then verify',
    )
  }
  checkOwner(visitor, body.amid)
  await refuseBanned(context, body.amid)
  const registration = verifyRegistration(raw, now)
  const unsigned: readonly string[] = UNSIGNED_RECORD_FIELDS
  const signed = Object.fromEntries(Object.entries(raw).filter(([field]) => !unsigned.includes(field)))
  const exchange = registration.public_keys.exchange_key
  const outcome = await context.store.putAgent(
    {
      amid: registration.amid,
      record: canonicalText(signed),
      sequence: registration.sequence,
      exchangeKey: exchange.key,
      exchangeSequence: exchange.sequence,
      recoveryKey: registration.recovery_public_key,
      presence: registration.online === undefined ? undefined : registration.online ? 'online' : 'offline',
      capabilities: capabilityRows(registration.capabilities),
    },
    { create, maxAgents: context.limits.maxAgents },
    now,
  )
  if (outcome === 'sequence-replayed') throw new AgentMeshError('SEQUENCE_REPLAYED')
  if (outcome === 'not-found') throw new AgentMeshError('AGENT_NOT_FOUND')
  if (outcome === 'full') throw new AgentMeshError('REGISTRY_FULL')
  const agent = await findAgent(context, registration.amid)
  return { status: outcome === 'created' ? 201 : 200, text: agentText(agent, presenceHorizon(context)) }
}

export function addAgentRoutes(app: FastifyInstance, context: Context): void {
  const { limits, store } = context

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/register',
    tag: 'agents',
    summary: 'Register an agent, or replace its record by a newer one',
    signed: true,
    body: Registration,
    maxBytes: limits.maxRecordBytes,
    perIp: 'registrationsPerIp',
    answers: { 201: AgentRecord, 200: AgentRecord },
    handle: ({ visitor, body, raw }) => putAgent(context, visitor, body, raw, true),
  })

  addRoute(app, context, {
    method: 'PUT',
    url: '/v1/registry/agents/:amid',
    tag: 'agents',
    summary: 'Replace the record of a registered agent by a newer one',
    signed: true,
    params: AmidPath,
    body: Registration,
    maxBytes: limits.maxRecordBytes,
    answers: { 200: AgentRecord },
    handle: ({ visitor, params, body, raw }) => {
      checkOwner(visitor, params['amid'] ?? '')
      return putAgent(context, visitor, body, raw, false)
    },
  })

  addRoute(app, context, {
    method: 'DELETE',
    url: '/v1/registry/agents/:amid',
    tag: 'agents',
    summary: 'Remove an agent and its prekeys',
    signed: true,
    params: AmidPath,
    answers: { 204: Type.Null() },
    handle: async ({ visitor, params }) => {
      checkOwner(visitor, params['amid'] ?? '')
      // Who is gone certifies nothing any more.
      await context.authority?.revokeAgent(visitor.amid, 'cessationOfOperation', context.now())
      if (!(await store.deleteAgent(visitor.amid))) throw new AgentMeshError('AGENT_NOT_FOUND')
      return { status: 204 }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/lookup',
    tag: 'agents',
    summary: 'Find an agent by its AMID',
    signed: false,
    query: LookupQuery,
    answers: { 200: AgentRecord },
    handle: async ({ query }) => {
      const agent = await findAgent(context, parseAmid(query.amid))
      return { status: 200, text: agentText(agent, presenceHorizon(context)) }
    },
  })

  addRoute(app, context, {
    method: 'PUT',
    url: '/v1/registry/presence',
    tag: 'agents',
    summary: 'Say whether the agent is online, away, dnd or offline',
    signed: true,
    body: PresenceBody,
    maxBytes: limits.maxBodyBytes,
    answers: { 200: PresenceBody },
    handle: async ({ visitor, body }) => {
      if (!(await store.setPresence(visitor.amid, body.state))) throw new AgentMeshError('NOT_REGISTERED')
      return { status: 200, body: { state: body.state } }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/did/:did',
    tag: 'agents',
    summary: 'The DID document of did:agentmesh:<amid>',
    signed: false,
    params: Type.Object({ did: Type.String({ pattern: '^did:agentmesh:' }) }),
    answers: { 200: DidDocument },
    handle: async ({ params }) => {
      const agent = await findAgent(context, amidFromDid(params['did'] ?? ''))
      // Checked when it was stored, by the schema whose fields these are.
      const record = JSON.parse(agentText(agent, presenceHorizon(context))) as AgentRecord
      return { status: 200, body: didDocument(record) }
    },
  })
}
