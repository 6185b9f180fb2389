/** A registry with its database at hand, people behind its agents, and sessions between them. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { signClosing, signFeedback } from '@agentmesh/sdk/identity'
import {
  formatTimestamp,
  parseSessionId,
  type Amid,
  type CloseReason,
  type FeedbackTag,
  type SessionClosing,
  type TierNumber,
} from '@agentmesh/sdk/wire'
import type { RegistryLimits } from '../limits.ts'
import { startRegistry, type RunningRegistry } from '../server.ts'
import { openSqliteStore } from '../store/sql-store.ts'
import type { Store } from '../store/store.ts'
import { TestAgent, type Reply } from '../test-support.ts'

const ADMIN_TOKEN = 'a-token-of-24-characters-or-more'

export interface TestRegistry {
  readonly registry: RunningRegistry
  /** Another handle on the same database. */
  readonly store: Store
  agent(name: string): Promise<TestAgent>
  /** Puts a person or an organisation behind an agent. */
  stand(amid: Amid, tier: TierNumber, who: { human?: string; organization?: string }): Promise<void>
  admin(method: string, path: string, body?: object, token?: string): Promise<Reply>
  close(): Promise<void>
}

export async function startTestRegistry(
  now: () => number,
  call: (url: string, init?: RequestInit) => Promise<Reply>,
  limits: Partial<RegistryLimits> = {},
): Promise<TestRegistry> {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-reputation-'))
  const dataPath = join(folder, 'registry.db')
  const free = { perSecond: 1e6, burst: 1e6 }
  const registry = await startRegistry({
    dataPath,
    now,
    adminTokens: `root:${ADMIN_TOKEN}`,
    limits: {
      requestsPerIp: free,
      registrationsPerIp: free,
      feedbackPerAgent: free,
      adminPerIp: free,
      ...limits,
    },
  })
  const store = await openSqliteStore(dataPath)
  return {
    registry,
    store,
    async agent(name) {
      const agent = new TestAgent(name, registry.url, now)
      const { status } = await agent.register()
      if (status !== 201) throw new Error(`registering answered ${status}`)
      return agent
    },
    stand: (amid, tier, { human, organization }) =>
      store.transaction('stand behind an agent', async (tx) => {
        if (human !== undefined) {
          await store.certificates.addAgentOfHuman(tx, {
            amid,
            human,
            display_name: null,
            verified_at: now(),
          })
        }
        const standing = { tier, verifiedName: null, organization: organization ?? null }
        await store.certificates.setStanding(tx, amid, standing)
      }),
    admin: (method, path, body, token = ADMIN_TOKEN) =>
      call(`${registry.url}/v1/registry/admin${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    async close() {
      await registry.close()
      await store.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export function closedSession(
  initiator: TestAgent,
  responder: TestAgent,
  at: number,
  reason: CloseReason = 'completed',
  id: string = randomUUID(),
): SessionClosing {
  const statement = {
    type: 'session_closing' as const,
    session_id: parseSessionId(id),
    initiator: initiator.amid,
    responder: responder.amid,
    reason,
    closed_at: formatTimestamp(at),
  }
  return {
    ...statement,
    initiator_signature: signClosing(initiator.identity, statement),
    responder_signature: signClosing(responder.identity, statement),
  }
}

export function rate(
  rater: TestAgent,
  closing: SessionClosing,
  rating: number,
  tags: readonly FeedbackTag[] = [],
): Promise<Reply> {
  return post(rater, signFeedback(rater.identity, { closing, rating, tags }, rater.now()))
}

export function post(sender: TestAgent, feedback: object): Promise<Reply> {
  return sender.send({ method: 'POST', path: '/v1/registry/reputation/feedback', body: feedback })
}
