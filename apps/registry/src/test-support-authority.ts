/** A registry with an authority whose inside a test can reach: what verifies people is another part of the registry. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  openTrustDocument,
  parseCrl,
  validatePath,
  type Crl,
  type PathVerdict,
} from '@agentmesh/sdk/identity'
import { fromBase64, type Amid } from '@agentmesh/sdk/wire'
import { makeAuthorityKeys, type AuthorityKeys } from './authority/authority-keys.ts'
import { startCertification, type Certification } from './authority/certification.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { startRegistry, type RegistryOptions, type RunningRegistry } from './server.ts'
import { openSqliteStore } from './store/sql-store.ts'
import type { Store } from './store/store.ts'
import { call } from './test-support.ts'

/** Nobody is asked there: the addresses are for documentation only (RFC 5737). */
const NOBODY = ['192.0.2.1', '192.0.2.2']

export class CertifyingRegistry {
  readonly registry: RunningRegistry
  readonly keys: AuthorityKeys
  readonly store: Store
  readonly certification: Certification
  readonly #folder: string
  readonly #now: () => number

  private constructor(
    registry: RunningRegistry,
    keys: AuthorityKeys,
    store: Store,
    certification: Certification,
    folder: string,
    now: () => number,
  ) {
    this.registry = registry
    this.keys = keys
    this.store = store
    this.certification = certification
    this.#folder = folder
    this.#now = now
  }

  static async start(
    now: () => number,
    options: Pick<RegistryOptions, 'resolvers' | 'limits' | 'adminTokens' | 'providersPath'> = {},
  ): Promise<CertifyingRegistry> {
    const { resolvers = NOBODY, limits = {} } = options
    const folder = mkdtempSync(join(tmpdir(), 'agentmesh-registry-'))
    const dataPath = join(folder, 'registry.db')
    const url = 'http://registry.example'
    const keys = makeAuthorityKeys({ name: 'Test registry', url, now: now(), random: systemRandom })
    const registry = await startRegistry({ ...options, dataPath, now, resolvers, authority: keys })
    // A second registry on the same database, without a server.
    const store = await openSqliteStore(dataPath)
    const all = { ...DEFAULT_LIMITS, ...limits }
    const certification = await startCertification(keys, store, all, resolvers, now())
    return new CertifyingRegistry(registry, keys, store, certification, folder, now)
  }

  get url(): string {
    return `${this.registry.url}/v1/registry`
  }

  /** As an agent fetches it. */
  async list(keyId: string): Promise<Crl> {
    return parseCrl(fromBase64((await call(`${this.url}/crl/${keyId}`)).body.crl))
  }

  /** What a stranger makes of a chain, with nothing but what the registry publishes. */
  async judge(chain: readonly string[], amid: Amid): Promise<PathVerdict> {
    const { body } = await call(`${this.url}/trust`)
    const trusted = openTrustDocument(body, { now: this.#now(), fingerprint: this.keys.fingerprint })
    const lists = new Map<string, Crl>()
    for (const { keyId } of [trusted.root, ...trusted.intermediates]) lists.set(keyId, await this.list(keyId))
    return validatePath(chain.map(fromBase64), trusted, {
      now: this.#now(),
      amid,
      crlOf: (keyId) => lists.get(keyId),
    })
  }

  async close(): Promise<void> {
    await this.registry.close()
    await this.store.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
