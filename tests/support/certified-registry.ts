/** A registry with a certificate authority, and the hand of its operator: who is verified without an identity provider. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { initAuthority, startRegistry, type RunningRegistry } from '@agentmesh/registry'
import type { Agent } from '@agentmesh/sdk'
import type { RevocationReason } from '@agentmesh/sdk/identity'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { parseKey, type Succession } from '@agentmesh/sdk/wire'
import { startCertification, type Certification } from '../../apps/registry/src/authority/certification.ts'
import { DEFAULT_LIMITS } from '../../apps/registry/src/limits.ts'
import { openSqliteStore } from '../../apps/registry/src/store/sql-store.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { freePort } from '../../apps/registry/src/test-support-postgres.ts'

export class CertifiedRegistry {
  readonly registry: RunningRegistry
  readonly fingerprint: string
  readonly #store: Store
  readonly #certification: Certification
  readonly #now: () => number

  private constructor(
    registry: RunningRegistry,
    fingerprint: string,
    store: Store,
    certification: Certification,
    now: () => number,
  ) {
    this.registry = registry
    this.fingerprint = fingerprint
    this.#store = store
    this.#certification = certification
    this.#now = now
  }

  /** @param now milliseconds since the epoch */
  static async start(
    folder: string,
    name: string,
    now: () => number = Date.now,
    limits = {},
  ): Promise<CertifiedRegistry> {
    // A certificate names the address of its registry, so the port is known before it listens.
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const dataPath = join(folder, `${name}.db`)
    const keys = initAuthority({
      folder: join(folder, `${name}.ca`),
      name,
      url,
      now: now(),
      random: systemRandom,
    })
    const registry = await startRegistry({ dataPath, authority: keys, port, publicUrl: url, now, limits })
    // A second instance on the same database, as a registry may have several.
    const store = await openSqliteStore(dataPath)
    const resolvers = ['127.0.0.1:53', '127.0.0.2:53']
    const certification = await startCertification(keys, store, DEFAULT_LIMITS, resolvers, now())
    return new CertifiedRegistry(registry, keys.fingerprint, store, certification, now)
  }

  /** As after `verify-me`. */
  async verify(agent: Agent, displayName: string, human = displayName): Promise<void> {
    const { public_keys } = await lookup(this.registry.url, agent)
    await this.#certification.authority.verifyAgent(
      {
        amid: agent.amid,
        publicKey: parseKey('ed25519', public_keys.signing_public_key),
        tier: 1,
        displayName,
        human: new Uint8Array(createHash('sha256').update(human).digest()),
      },
      this.#now(),
    )
    await agent.trust.refresh()
  }

  async revoke(agent: Agent, reason: RevocationReason): Promise<void> {
    await this.#certification.authority.revokeAgent(agent.amid, reason, this.#now())
  }

  /** What a registry would show that lies, or that was lied to: nothing of it is checked. */
  async plantSuccession(statement: Succession): Promise<void> {
    const { old_amid, new_amid } = statement
    await this.#store.transaction('plant a succession', async (tx) => {
      await tx.deleteFrom('successions').where('old_amid', '=', old_amid).execute()
      const row = { old_amid, new_amid, statement: JSON.stringify(statement), taken_at: this.#now() }
      await tx.insertInto('successions').values(row).execute()
    })
  }

  async close(): Promise<void> {
    await this.registry.close()
    await this.#store.close()
  }
}

async function lookup(
  url: string,
  { amid }: Agent,
): Promise<{ public_keys: { signing_public_key: string } }> {
  const answer = await fetch(`${url}/v1/registry/lookup?amid=${amid}`)
  return (await answer.json()) as { public_keys: { signing_public_key: string } }
}
