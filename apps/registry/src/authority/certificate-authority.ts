/**
 * The authority at work: it issues under the intermediate's key, revokes, and keeps the tier of every agent what its
 * certificates say (DESIGN §8).
 *
 * Each change is one transaction over certificates, tiers, revocation list and log. It keeps nothing in memory but its keys
 * and its newest service certificate, so that several registries with the same keys share one database.
 */
import type { KeyPair, RandomBytes } from '@agentmesh/sdk/crypto/signing'
import {
  CERTIFICATE_LIFETIMES,
  certificateFromText,
  certificateText,
  issueAgent,
  issueService,
  newSerial,
  parseCertificate,
  parseCrl,
  type Certificate,
  type LogEntry,
  type RevocationReason,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  amidToBytes,
  canonicalBytes,
  CLOCK_SKEW_SECONDS,
  formatTimestamp,
  TIERS,
  toBase64,
  toHex,
  type Amid,
  type CertificateProof,
  type LoggedRevocation,
  type TrustDocument,
} from '@agentmesh/sdk/wire'
import { banSubjects } from '../admin/bans.ts'
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import type { Transaction } from 'kysely'
import type { CertificateKind } from '../store/certificates-tables.ts'
import type { Store } from '../store/store.ts'
import type { Tables } from '../store/tables.ts'
import { domainProofKey, type AuthorityKeys } from './authority-keys.ts'
import type { AgentSubject, Authority, IssuedCertificate, VerifiedSubject } from './authority.ts'
import { RevocationLists } from './revocation-lists.ts'

const DAY = 86_400_000
/** A certificate with so much of its life left is given again in place of a new one. */
const AGENT_RENEWAL = 20 * DAY
const SERVICE_RENEWAL = 30 * DAY
/** How far back lapsed memberships are looked for, and how many at once. */
const LAPSED_WINDOW = DAY
const LAPSED_BATCH = 200

/** The transparency log, as the authority needs it. */
export interface Log {
  /** Within the caller's transaction, and last in it. */
  append(tx: Transaction<Tables>, entry: LogEntry): Promise<number>
  /** @param hash lower-case hex of SHA-256 of the certificate's DER */
  certificateProof(hash: string, now: number): Promise<CertificateProof>
}

export interface AuthorityParts {
  readonly store: Store
  readonly log: Log
  readonly random: RandomBytes
  readonly maxAgentsOfHuman: number
}

export class CertificateAuthority implements Authority {
  readonly #keys: AuthorityKeys
  readonly #parts: AuthorityParts
  readonly lists: RevocationLists
  #service: Certificate

  private constructor(keys: AuthorityKeys, parts: AuthorityParts) {
    this.#keys = keys
    this.#parts = parts
    this.#service = keys.service.certificate
    this.lists = new RevocationLists(parts.store, keys)
  }

  /** Logs the registry's own certificates once, renews what is due. */
  static async start(keys: AuthorityKeys, parts: AuthorityParts, now: number): Promise<CertificateAuthority> {
    const authority = new CertificateAuthority(keys, parts)
    await authority.#record('root', keys.root, now)
    await authority.#record('intermediate', keys.intermediate.certificate, now)
    await authority.#record('service', keys.service.certificate, now)
    await authority.#takeRootList(now)
    await authority.keepHouse(now)
    return authority
  }

  get fingerprint(): string {
    return this.#keys.fingerprint
  }

  get name(): string {
    return this.#keys.name
  }

  get serviceKey(): KeyPair {
    return this.#keys.service.signing
  }

  get root(): Certificate {
    return this.#keys.root
  }

  get intermediate(): Certificate {
    return this.#keys.intermediate.certificate
  }

  /** The one that issues first; those before it, for what they issued. */
  get intermediates(): Certificate[] {
    return [this.#keys.intermediate, ...this.#keys.retired].map(({ certificate }) => certificate)
  }

  get trustDocument(): TrustDocument {
    return {
      name: this.#keys.name,
      url: this.#keys.url,
      root: certificateText(this.#keys.root),
      intermediates: this.intermediates.map(certificateText),
      service_certificate: certificateText(this.#service),
    }
  }

  /** What proofs of domains are keyed with: the same in every process of this registry. */
  get domainProofKey(): Uint8Array {
    return domainProofKey(this.#keys)
  }

  async verifyAgent(subject: VerifiedSubject, now: number): Promise<IssuedCertificate> {
    const { amid, publicKey } = subject
    const human = toBase64(subject.human)
    const displayName = subject.displayName ?? null
    const { store, maxAgentsOfHuman } = this.#parts
    const { certificates } = store
    const issued = await store.transaction('certify an agent', async (tx) => {
      await certificates.lockHuman(tx, human, now)
      if (await store.admin.isBanned(banSubjects(amid, human), tx)) throw new AgentMeshError('BANNED')
      if ((await certificates.successorOf(tx, amid)) !== undefined) throw new AgentMeshError('AMID_SUCCEEDED')
      if (!(await certificates.lockAgent(tx, amid))) throw new AgentMeshError('NOT_REGISTERED')
      const before = await certificates.verifiedAgent(amid, tx)
      if (before !== undefined && before.human !== human) throw new AgentMeshError('VERIFIED_BY_ANOTHER')
      const count = await certificates.addAgentOfHuman(tx, {
        amid,
        human,
        display_name: displayName,
        verified_at: now,
      })
      if (count > maxAgentsOfHuman) throw new AgentMeshError('AGENTS_OF_HUMAN_LIMIT')
      await this.restand(tx, amid, now)
      return this.#issueAgent(tx, publicKey, displayName, now)
    })
    return this.proven([issued], now)
  }

  async issueAgent({ amid, publicKey }: AgentSubject, now: number): Promise<IssuedCertificate> {
    const { store } = this.#parts
    // The registry cannot renew what an organisation issued: its member gets what there is.
    const membership = await store.certificates.membership(amid, now)
    if (membership !== undefined) {
      return this.proven([membership.agent, membership.organization].map(certificateFromText), now)
    }
    const verified = await store.certificates.verifiedAgent(amid)
    if (verified === undefined) throw new AgentMeshError('NOT_VERIFIED')
    const held = await store.certificates.newestOfAgent(amid, this.intermediate.keyId, now)
    if (held !== undefined && held.not_after - now > AGENT_RENEWAL) {
      return this.proven([certificateFromText(held.der)], now)
    }
    const issued = await store.transaction('renew a certificate', (tx) =>
      this.#issueAgent(tx, publicKey, verified.display_name, now),
    )
    return this.proven([issued], now)
  }

  async revokeAgent(amid: Amid, reason: RevocationReason, now: number): Promise<number> {
    return this.#parts.store.transaction('revoke an agent', async (tx) => {
      const { entries, count } = await this.dropAgent(tx, amid, reason, now)
      const ended = await this.endOrganization(tx, amid, { status: 'suspended', reason }, now)
      await this.append(tx, [...entries, ...ended])
      return count + ended.length
    })
  }

  /**
   * Ends an organisation, if the agent is one: its certificate is revoked, and its agents are what they are without it.
   *
   * @returns the entries for the log, which are the caller's to append last in its transaction
   */
  async endOrganization(
    tx: Transaction<Tables>,
    amid: Amid,
    { status, reason }: { readonly status: 'suspended' | 'revoked'; readonly reason: RevocationReason },
    now: number,
  ): Promise<LogEntry[]> {
    const { certificates } = this.#parts.store
    const stored = await certificates.organization(amid, tx)
    if (stored === undefined) return []
    if (stored.status !== 'pending') await certificates.setOrganization(tx, amid, { status })
    const subject = toHex(amidToBytes(amid))
    const revoked = await certificates.revoke(tx, { kind: 'organization', subject }, reason, now)
    for (const member of await certificates.membersOf(tx, subject, now)) await this.restand(tx, member, now)
    await this.lists.renewFor(tx, revoked, now)
    return revoked.map((row) => revocationEntry(row, reason, now))
  }

  // --- for organisations and successions, in their transactions

  /**
   * Ends what an agent was: human, tier, certificates. The entries are the caller's to append, last in its transaction.
   */
  async dropAgent(
    tx: Transaction<Tables>,
    amid: Amid,
    reason: RevocationReason,
    now: number,
  ): Promise<{ entries: LogEntry[]; count: number }> {
    const { certificates } = this.#parts.store
    await certificates.lockAgent(tx, amid)
    await certificates.dropVerifiedAgent(tx, amid)
    const revoked = await certificates.revoke(tx, { kind: 'agent', amid }, reason, now)
    await this.restand(tx, amid, now)
    await this.lists.renewFor(tx, revoked, now)
    return { entries: revoked.map((row) => revocationEntry(row, reason, now)), count: revoked.length }
  }

  /** Sets the tier of an agent to what its certificates and its human say. False when it is not registered. */
  async restand(tx: Transaction<Tables>, amid: Amid, now: number): Promise<boolean> {
    const { certificates } = this.#parts.store
    if (!(await certificates.lockAgent(tx, amid))) return false
    const organization = await certificates.organizationOfAgent(tx, amid, now)
    const verified = await certificates.verifiedAgent(amid, tx)
    const tier =
      organization !== undefined
        ? TIERS.organization
        : verified !== undefined
          ? TIERS.verified
          : TIERS.anonymous
    return certificates.setStanding(tx, amid, {
      tier: tier.number,
      verifiedName: verified?.display_name ?? null,
      organization: organization === undefined ? null : shownOrganization(organization),
    })
  }

  /** Stores a certificate. False when it is stored already. */
  add(
    tx: Transaction<Tables>,
    kind: CertificateKind,
    certificate: Certificate,
    amid: Amid | null,
  ): Promise<boolean> {
    return this.#parts.store.certificates.add(tx, {
      issuer: certificate.authorityKeyId ?? certificate.keyId,
      serial: certificate.serial,
      kind,
      subject: certificate.keyId,
      amid,
      der: certificateText(certificate),
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
    })
  }

  async append(tx: Transaction<Tables>, entries: readonly LogEntry[]): Promise<void> {
    for (const entry of entries) await this.#parts.log.append(tx, entry)
  }

  /** A chain and the proof that its first certificate is in the log. */
  async proven(chain: readonly Certificate[], now: number): Promise<IssuedCertificate> {
    const [first] = chain
    if (first === undefined) throw new AgentMeshError('INTERNAL')
    const proof = await this.#parts.log.certificateProof(toHex(sha256(first.der)), now)
    return { chain: chain.map(certificateText), proof }
  }

  /** What every certificate issued here has. */
  terms(lifetime: number, now: number) {
    return {
      serial: newSerial(this.#parts.random),
      // A clock that is a little behind must be able to use it at once.
      notBefore: now - CLOCK_SKEW_SECONDS * 1000,
      notAfter: now + lifetime,
    }
  }

  get issuer() {
    return this.#keys.intermediate
  }

  async #issueAgent(
    tx: Transaction<Tables>,
    publicKey: Uint8Array,
    displayName: string | null,
    now: number,
  ): Promise<Certificate> {
    const certificate = parseCertificate(
      issueAgent(
        {
          ...this.terms(CERTIFICATE_LIFETIMES.agent, now),
          publicKey,
          ...(displayName === null ? {} : { displayName }),
        },
        this.issuer,
      ),
    )
    await this.add(tx, 'agent', certificate, certificate.amid ?? null)
    await this.append(tx, [certificateEntry(certificate, now)])
    return certificate
  }

  // --- upkeep

  /** Renews the service certificate and the lists when due, and lets memberships lapse with their certificates. */
  async keepHouse(now: number): Promise<void> {
    await this.#renewService(now)
    await this.lists.renewDue(now)
    const { store } = this.#parts
    for (const amid of await store.certificates.lapsed(now - LAPSED_WINDOW, now, LAPSED_BATCH)) {
      await store.transaction('let a membership lapse', (tx) => this.restand(tx, amid, now))
    }
  }

  /** Agents that an organisation brought in itself, when that was possible, are its own no more. */
  async endUnfounded(now: number): Promise<void> {
    const { store } = this.#parts
    for (;;) {
      const found = await store.certificates.unfounded(now, LAPSED_BATCH)
      for (const amid of found) {
        await store.transaction('end a membership', (tx) => this.restand(tx, amid, now))
      }
      if (found.length < LAPSED_BATCH) return
    }
  }

  /** An intermediate that the root revoked takes with it what it issued; people's agents get new certificates when they ask. */
  async #takeRootList(now: number): Promise<void> {
    const { store } = this.#parts
    const { root, rootList } = this.#keys
    for (const [serial, { reason }] of parseCrl(rootList).entries) {
      await store.transaction('revoke an intermediate', async (tx) => {
        const { certificates } = store
        const which = { kind: 'intermediate', issuer: root.keyId, serial } as const
        const [revoked] = await certificates.revoke(tx, which, reason, now)
        if (revoked === undefined) return
        const fallen = this.intermediates.find((certificate) => certificate.serial === serial)
        for (const kind of ['agent', 'organization', 'service'] as const) {
          if (fallen !== undefined) await certificates.revoke(tx, { kind, issuer: fallen.keyId }, reason, now)
        }
        if (this.#keys.rootKey !== undefined) await this.lists.renewOwn(tx, root.keyId, now)
        await this.append(tx, [revocationEntry(revoked, reason, now)])
      })
    }
  }

  async #renewService(now: number): Promise<void> {
    const { store } = this.#parts
    const { service, name, url } = this.#keys
    const found = await store.certificates.newest('service', service.certificate.keyId, now)
    // One under an intermediate that issues no more is replaced.
    const newest = found?.issuer === this.intermediate.keyId ? found : undefined
    if (newest !== undefined) this.#service = certificateFromText(newest.der)
    if (newest !== undefined && newest.not_after - now > SERVICE_RENEWAL) return
    const certificate = parseCertificate(
      issueService(
        {
          ...this.terms(CERTIFICATE_LIFETIMES.service, now),
          name,
          url,
          publicKey: service.signing.publicKey,
        },
        this.issuer,
      ),
    )
    await this.#record('service', certificate, now)
    this.#service = certificate
  }

  async #record(kind: CertificateKind, certificate: Certificate, now: number): Promise<void> {
    await this.#parts.store.transaction('store a certificate', async (tx) => {
      if (await this.add(tx, kind, certificate, null))
        await this.append(tx, [certificateEntry(certificate, now)])
    })
  }
}

/** A name alone is a claim; the domain beside it is what was proved. */
export function shownOrganization({
  name,
  domain,
}: {
  readonly name: string
  readonly domain: string
}): string {
  return `${name} (${domain})`
}

export function certificateEntry(certificate: Certificate, now: number): LogEntry {
  return { kind: 'certificate', timestamp: now, content: certificate.der }
}

/** What the log says of a revocation: which certificate, when, why. */
export function revocationEntry(
  revoked: { readonly issuer: string; readonly serial: string; readonly amid: Amid | null },
  reason: RevocationReason,
  now: number,
): LogEntry {
  const { issuer, serial, amid } = revoked
  const content: LoggedRevocation = {
    type: 'revocation',
    issuer,
    serial,
    reason,
    revoked_at: formatTimestamp(now),
    ...(amid === null ? {} : { amid }),
  }
  return { kind: 'revocation', timestamp: now, content: canonicalBytes(content) }
}
