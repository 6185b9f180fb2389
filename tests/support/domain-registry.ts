/** A registry that certifies organisations, whose domains two real DNS servers answer for: two, as two resolvers. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ed25519KeyPair, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  identityFromKeyPair,
  issueAgent,
  makeExchangeKey,
  newSerial,
  parseCertificate,
  signRegistration,
  type Identity,
} from '@agentmesh/sdk/identity'
import { formatTimestamp } from '@agentmesh/sdk/wire'
import { startCertification, type Certification } from '../../apps/registry/src/authority/certification.ts'
import { makeAuthorityKeys, type AuthorityKeys } from '../../apps/registry/src/authority/authority-keys.ts'
import { DEFAULT_LIMITS } from '../../apps/registry/src/limits.ts'
import { openSqliteStore } from '../../apps/registry/src/store/sql-store.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { startRegistry, type RunningRegistry } from '../../apps/registry/src/index.ts'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { DnsServer } from './dns-server.ts'

const MEMBER_DAYS = 30
const DAY = 86_400_000

export interface Member {
  readonly identity: Identity
  readonly client: HttpRegistryClient
}

export interface DomainRegistry {
  readonly one: DnsServer
  readonly two: DnsServer
  readonly keys: AuthorityKeys
  readonly registry: RunningRegistry
  /** A second instance on the same database, as a registry may have several. */
  readonly store: Store
  readonly certification: Certification
  /** An agent that has registered. */
  member(): Promise<Member>
  close(): Promise<void>
}

/**
 * @param clock milliseconds since the epoch
 * @param options of the registry besides
 */
export async function startDomainRegistry(
  clock: () => number,
  options: { readonly adminTokens?: string } = {},
): Promise<DomainRegistry> {
  const one = await DnsServer.start()
  const two = await DnsServer.start()
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-organizations-'))
  const dataPath = join(folder, 'registry.db')
  const name = 'Test registry'
  const keys = makeAuthorityKeys({ name, url: 'http://registry.example', now: clock(), random: systemRandom })
  const resolvers = [one.address, two.address]
  const registry = await startRegistry({ ...options, dataPath, authority: keys, resolvers, now: clock })
  const store = await openSqliteStore(dataPath)
  const certification = await startCertification(keys, store, DEFAULT_LIMITS, resolvers, clock())
  return {
    one,
    two,
    keys,
    registry,
    store,
    certification,
    member: () => register(registry.url, clock),
    async close() {
      await registry.close()
      await store.close()
      await one.close()
      await two.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function register(url: string, clock: () => number): Promise<Member> {
  const identity = identityFromKeyPair(ed25519KeyPair(systemRandom(32)))
  const client = new HttpRegistryClient(url, identity, { now: clock, random: systemRandom })
  const options = { startId: 1, sequence: 1, random: systemRandom, now: clock() }
  await client.register(
    signRegistration(identity, {
      exchange_key: makeExchangeKey(identity, options).record,
      capabilities: ['travel'],
      relay_endpoint: 'wss://relay.example/v1/connect',
      sequence: 1,
      created_at: formatTimestamp(clock()),
    }),
  )
  return { identity, client }
}

/** What an organisation does offline. @returns the chain of the new member, base64 DER */
export async function issueMember(of: Member, to: Member, now: number, role?: string): Promise<string[]> {
  const { certificate = '' } = await of.client.organization(of.identity.amid)
  const der = issueAgent(
    {
      serial: newSerial(systemRandom),
      notBefore: now - 1000,
      notAfter: now + MEMBER_DAYS * DAY,
      publicKey: to.identity.signing.publicKey,
      displayName: 'Fleet agent',
      role,
    },
    { certificate: certificateFromText(certificate), signing: of.identity.signing },
  )
  return [certificateText(parseCertificate(der)), certificate]
}
