/** A registry's verification endpoints over real HTTP, before a certificate authority that only keeps count. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { AgentMeshError, toBase64Url, toHex, utf8Bytes } from '@agentmesh/sdk/wire'
import Fastify from 'fastify'
import type { Authority, VerifiedSubject } from '../authority/authority.ts'
import { makeLimiters, type Context } from '../context.ts'
import { DEFAULT_LIMITS, type RegistryLimits } from '../limits.ts'
import { RegistryMetrics } from '../metrics.ts'
import { storedPeople } from '../reputation/people.ts'
import { sendRefusal } from '../refusals.ts'
import { SchemaCatalogue } from '../schema-catalogue.ts'
import { openSqliteStore } from '../store/sql-store.ts'
import { TestAgent, type Reply } from '../test-support.ts'
import { readProviders } from './configuration.ts'
import { addVerificationRoutes } from './routes.ts'
import { Verifier } from './verifier.ts'

const HUMAN_SECRET = new Uint8Array(32).fill(7)
export const VERIFIER = 'v'.repeat(64)
export const CHALLENGE = toBase64Url(sha256(utf8Bytes(VERIFIER)))
export const REDIRECT = 'http://127.0.0.1:45678/callback'

export interface TestRegistry {
  readonly url: string
  /** Who was verified, in order. */
  readonly verified: VerifiedSubject[]
  readonly mailErrors: unknown[]
  /** Moves the registry's clock, in milliseconds. */
  pass(milliseconds: number): void
  agent(name: string): Promise<TestAgent>
  close(): Promise<void>
}

export async function startVerification(
  providers: readonly object[],
  limits: Partial<RegistryLimits> = {},
): Promise<TestRegistry> {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-verification-'))
  const path = join(folder, 'providers.json')
  writeFileSync(path, JSON.stringify({ providers }))
  let offset = 0
  const now = () => Date.now() + offset
  const allLimits = {
    ...DEFAULT_LIMITS,
    verificationsPerAgent: { perSecond: 100, burst: 1000 },
    verificationsPerIp: { perSecond: 100, burst: 1000 },
    ...limits,
  }
  const read = await readProviders(path, { maxSeconds: allLimits.verificationSeconds, now })
  rmSync(folder, { recursive: true, force: true })
  const store = await openSqliteStore(':memory:')
  const verified: VerifiedSubject[] = []
  const authorities = new Set<string>()
  const mailErrors: unknown[] = []
  const document = { name: 'Test', url: '', root: '', intermediates: [], service_certificate: '' }
  const context: Context = {
    store,
    limits: allLimits,
    limiters: makeLimiters(allLimits),
    metrics: new RegistryMetrics(),
    schemas: new SchemaCatalogue(),
    authority: countingAuthority(document, verified),
    people: storedPeople(store),
    administrators: [],
    now,
    authorities,
    leaving: new AbortController().signal,
  }
  const verifier = new Verifier(context, { providers: read, secret: HUMAN_SECRET }, (error) =>
    mailErrors.push(error),
  )
  const app = Fastify()
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  )
  app.setValidatorCompiler(() => () => true)
  app.setErrorHandler((error, request, reply) => sendRefusal(context.metrics, app.log, error, request, reply))
  addVerificationRoutes(app, context, verifier)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  document.url = url
  authorities.add(`127.0.0.1:${port}`)
  return {
    url,
    verified,
    mailErrors,
    pass(milliseconds) {
      offset += milliseconds
    },
    async agent(name) {
      const agent = new TestAgent(name, url, now)
      await store.putAgent(
        {
          amid: agent.amid,
          record: '{}',
          sequence: 1,
          exchangeKey: 'x',
          exchangeSequence: 1,
          recoveryKey: undefined,
          presence: undefined,
          capabilities: [],
        },
        { create: true, maxAgents: 1000 },
        now(),
      )
      return agent
    },
    async close() {
      await app.close()
      await verifier.close()
      await store.close()
    },
  }
}

function countingAuthority(document: Authority['trustDocument'], verified: VerifiedSubject[]): Authority {
  const proof = {
    tree_head: {
      type: 'tree_head' as const,
      registry: '00'.repeat(32),
      size: 1,
      root_hash: Buffer.alloc(32).toString('base64'),
      timestamp: '2026-01-01T00:00:00Z',
      signature: Buffer.alloc(64).toString('base64'),
    },
    index: 0,
    entry_timestamp: '2026-01-01T00:00:00Z',
    path: [],
  }
  const unused = () => Promise.reject(new AgentMeshError('INTERNAL'))
  return {
    fingerprint: '00'.repeat(32),
    name: document.name,
    trustDocument: document,
    serviceKey: ed25519KeyPair(new Uint8Array(32)),
    verifyAgent(subject: VerifiedSubject) {
      verified.push(subject)
      return Promise.resolve({ chain: ['AAAA'], proof })
    },
    issueAgent: unused,
    revokeAgent: unused,
  }
}

export const humanHex = (subject: VerifiedSubject | undefined): string =>
  subject === undefined ? '' : toHex(subject.human)

const post = (agent: TestAgent, path: string, body: object): Promise<Reply> =>
  agent.send({ method: 'POST', path: `/v1/registry/verification/${path}`, body })

export const start = (agent: TestAgent, provider: string, fields: object = {}): Promise<Reply> =>
  post(agent, 'start', { provider, redirect_uri: REDIRECT, code_challenge: CHALLENGE, ...fields })

/** Ends with what the browser was sent back with. */
export function finish(agent: TestAgent, id: string, returned: URL, fields: object = {}): Promise<Reply> {
  const { code, state, iss } = Object.fromEntries(returned.searchParams)
  return post(agent, 'finish', {
    verification_id: id,
    code,
    state,
    ...(iss === undefined ? {} : { iss }),
    code_verifier: VERIFIER,
    ...fields,
  })
}

export const verification = post
