/** A registry with a certificate authority, and the hand of its operator: who is verified without an identity provider. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { findAuthority, initAuthority, startRegistry, type RunningRegistry } from '@agentmesh/registry'
import type { Agent } from '@agentmesh/sdk'
import { certificateFromText, type RevocationReason } from '@agentmesh/sdk/identity'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { parseKey, type Amid, type Registration, type Succession } from '@agentmesh/sdk/wire'
import { certificateEntry } from '../../apps/registry/src/authority/certificate-authority.ts'
import { startCertification, type Certification } from '../../apps/registry/src/authority/certification.ts'
import { DEFAULT_LIMITS } from '../../apps/registry/src/limits.ts'
import { openSqliteStore } from '../../apps/registry/src/store/sql-store.ts'
import type { Store } from '../../apps/registry/src/store/store.ts'
import { freePort } from '../../apps/registry/src/test-support-postgres.ts'

interface Settings {
  readonly dataPath: string
  readonly port: number
  readonly now: () => number
  readonly limits: object
  /** Opened anew at each start, as the program does. */
  readonly folder: string
}

export class CertifiedRegistry {
  readonly fingerprint: string
  readonly #settings: Settings
  #registry!: RunningRegistry
  #store!: Store
  #certification!: Certification

  private constructor(settings: Settings, fingerprint: string) {
    this.#settings = settings
    this.fingerprint = fingerprint
  }

  get registry(): RunningRegistry {
    return this.#registry
  }

  get #now(): () => number {
    return this.#settings.now
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
    const authority = join(folder, `${name}.ca`)
    const { fingerprint } = initAuthority({
      folder: authority,
      name,
      url: `http://127.0.0.1:${port}`,
      now: now(),
      random: systemRandom,
      offlineRoot: `${authority}.root`,
    })
    const settings = { dataPath: join(folder, `${name}.db`), port, now, limits, folder: authority }
    const certified = new CertifiedRegistry(settings, fingerprint)
    await certified.#open()
    return certified
  }

  async #open(): Promise<void> {
    const { dataPath, port, now, limits, folder } = this.#settings
    const keys = findAuthority(folder, dataPath, undefined)
    if (keys === undefined) throw new Error(`no authority in ${folder}`)
    const publicUrl = `http://127.0.0.1:${port}`
    this.#registry = await startRegistry({ dataPath, authority: keys, port, publicUrl, now, limits })
    // A second instance on the same database, as a registry may have several.
    this.#store = await openSqliteStore(dataPath)
    const resolvers = ['127.0.0.1:53', '127.0.0.2:53']
    this.#certification = await startCertification(keys, this.#store, DEFAULT_LIMITS, resolvers, now())
  }

  /** Where its keys are; the root's is beside it, in `<folder>.root`. */
  get folder(): string {
    return this.#settings.folder
  }

  /** The same registry again. @param change what happens to its database file while it is down */
  async restart(change: (dataPath: string) => Promise<void> | void): Promise<void> {
    await this.close()
    await change(this.#settings.dataPath)
    await this.#open()
  }

  /** As after `verify-me`. */
  async verify(agent: Agent, displayName: string, human = displayName): Promise<void> {
    await this.verifyAmid(agent.amid, displayName, human)
    await agent.trust.refresh()
  }

  /** As `verify`, of an agent that this process does not hold. */
  async verifyAmid(amid: Amid, displayName: string, human = displayName): Promise<void> {
    const { record = '' } = (await this.#store.getAgent(amid)) ?? {}
    const { public_keys } = JSON.parse(record) as Registration
    await this.#certification.authority.verifyAgent(
      {
        amid,
        publicKey: parseKey('ed25519', public_keys.signing_public_key),
        tier: 1,
        displayName,
        human: new Uint8Array(createHash('sha256').update(human).digest()),
      },
      this.#now(),
    )
  }

  /** As after `org verify`, with nobody asked for the domain. @returns the organisation's certificate, base64 DER */
  async verifyOrganization(amid: Amid, domain: string, name: string): Promise<string> {
    const { record = '' } = (await this.#store.getAgent(amid)) ?? {}
    const { public_keys } = JSON.parse(record) as Registration
    const { certificates } = this.#store
    const now = this.#now()
    await this.#store.transaction('verify an organisation', async (tx) => {
      const organization = { amid, public_key: public_keys.signing_public_key, domain, name }
      await certificates.putOrganization(tx, organization, now)
      await certificates.setOrganization(tx, amid, { status: 'verified', checked_at: now })
    })
    const { organizations } = this.#certification
    await organizations.recertify(now)
    return (await organizations.get(amid, now)).certificate ?? ''
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

  /** What a registry would show that lies: an agent in an organisation, with no word of the agent's. */
  async plantMember(chain: readonly string[]): Promise<void> {
    const [member, organization] = chain.map(certificateFromText)
    if (member?.amid === undefined || organization === undefined) throw new Error('no chain of a member')
    const { amid } = member
    const { authority } = this.#certification
    const now = this.#now()
    await this.#store.transaction('plant a member', async (tx) => {
      await authority.add(tx, 'agent', member, amid)
      const membership = { issuer: organization.keyId, serial: member.serial }
      await this.#store.certificates.agree(tx, membership, now)
      await authority.restand(tx, amid, now)
      await authority.append(tx, [certificateEntry(member, now)])
    })
  }

  /** Its certificates as a version kept them that took an organisation's word for its agents. */
  async forgetAgreements(): Promise<void> {
    await this.#store.transaction('forget agreements', (tx) =>
      tx.updateTable('certificates').set({ agreed_at: null }).execute(),
    )
  }

  async close(): Promise<void> {
    await this.#registry.close()
    await this.#store.close()
  }
}
