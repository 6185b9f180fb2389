/**
 * Organisations (tier 1.5; DESIGN §8): an AMID asks for a domain, proves it by a DNS record, and gets a certificate for its own
 * key, with which it certifies its agents and needs the registry no more. The record is looked at again every day.
 *
 *     pending -> verified <-> grace -> suspended -> verified (proved anew)
 *                   '-> suspended: another organisation proved the domain
 */
import {
  CERTIFICATE_LIFETIMES,
  certificateFromText,
  issueOrganization,
  parseCertificate,
  type Certificate,
  type LogEntry,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  amidToBytes,
  formatKey,
  formatTimestamp,
  isAgentMeshError,
  parseKey,
  toHex,
  utf8Bytes,
  type Amid,
  type DomainChallenge,
  type OrganizationRecord,
} from '@agentmesh/sdk/wire'
import type { Transaction } from 'kysely'
import {
  certificateEntry,
  shownOrganization,
  type CertificateAuthority,
} from '../authority/certificate-authority.ts'
import type { Visitor } from '../route.ts'
import type { StoredOrganization } from '../store/certificates-store.ts'
import type { Store } from '../store/store.ts'
import type { Tables } from '../store/tables.ts'
import type { DnsLookup } from './dns-lookup.ts'
import { checkDomain, checkProof, makeProof, proofHost } from './domain-proof.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const PROOF_LIFETIME = 400 * DAY
const RECHECK = DAY
/** When a resolver did not answer. */
const RETRY = HOUR
const GRACE = 7 * DAY
const CERTIFICATE_RENEWAL = 120 * DAY
/** Organisations checked in one go. */
const BATCH = 20
/** Of a name in a certificate, in bytes of UTF-8. */
const MAX_SHOWN_BYTES = 64

export interface OrganizationParts {
  readonly store: Store
  readonly authority: CertificateAuthority
  readonly dns: DnsLookup
}

export class Organizations {
  readonly #store: Store
  readonly #authority: CertificateAuthority
  readonly #dns: DnsLookup
  readonly #proofKey: Uint8Array

  constructor({ store, authority, dns }: OrganizationParts) {
    this.#store = store
    this.#authority = authority
    this.#dns = dns
    this.#proofKey = authority.domainProofKey
  }

  /**
   * Asks for a domain. Asked again, it gives another record, good for longer.
   *
   * @throws MALFORMED; also for another domain or name of an AMID that is a verified organisation already
   */
  async register(
    visitor: Visitor,
    asked: { readonly domain: string; readonly name: string },
    now: number,
  ): Promise<DomainChallenge> {
    const domain = checkDomain(asked.domain)
    const name = checkName(asked.name, domain)
    const stored = await this.#store.transaction('register an organisation', async (tx) => {
      const { certificates } = this.#store
      const organization = {
        amid: visitor.amid,
        public_key: formatKey('ed25519', visitor.publicKey),
        domain,
        name,
      }
      await certificates.putOrganization(tx, organization, now)
      return certificates.organization(visitor.amid, tx)
    })
    if (stored === undefined || stored.domain !== domain || stored.name !== name) {
      throw new AgentMeshError(
        'MALFORMED',
        'This AMID is a verified organisation: another domain or name needs another AMID',
      )
    }
    const expiresAt = now + PROOF_LIFETIME
    return {
      organization: await this.#record(stored, now),
      record: {
        name: proofHost(domain),
        type: 'TXT',
        value: makeProof({ domain, name, amid: visitor.amid }, expiresAt, this.#proofKey),
        expires_at: formatTimestamp(expiresAt),
      },
    }
  }

  /**
   * Looks for the record, and certifies the organisation when it is there.
   *
   * @throws ORGANIZATION_UNKNOWN, AMID_SUCCEEDED, DOMAIN_PROOF_MISSING, DOMAIN_PROOF_INVALID, DOMAIN_PROOF_DISPUTED, DNS_UNAVAILABLE
   */
  async verify(visitor: Visitor, now: number): Promise<OrganizationRecord> {
    const { certificates } = this.#store
    const asked = await certificates.organization(visitor.amid)
    if (asked === undefined) throw new AgentMeshError('ORGANIZATION_UNKNOWN')
    checkProof(await this.#dns.proofs(asked.domain), asked, this.#proofKey, now)
    await this.#store.transaction('verify an organisation', async (tx) => {
      await certificates.setOrganization(tx, asked.amid, { checked_at: now })
      if ((await certificates.successorOf(tx, asked.amid)) !== undefined)
        throw new AgentMeshError('AMID_SUCCEEDED')
      const entries: LogEntry[] = []
      const holder = await certificates.holderOf(tx, asked.domain)
      // The DNS has one record, and it names this one.
      if (holder !== undefined && holder.amid !== asked.amid) {
        entries.push(...(await this.end(tx, holder.amid, 'suspended', now)))
      }
      await certificates.setOrganization(tx, asked.amid, { status: 'verified', lost_at: null })
      const issued = await this.#certify(tx, asked, now)
      if (issued !== undefined) entries.push(certificateEntry(issued, now))
      await this.#restandMembers(tx, asked.amid, now)
      await this.#authority.append(tx, entries)
    })
    return this.get(asked.amid, now)
  }

  /** @throws ORGANIZATION_UNKNOWN, also for one that has never been verified: who asks for a domain is nobody's business */
  async get(amid: Amid, now: number): Promise<OrganizationRecord> {
    const stored = await this.#store.certificates.organization(amid)
    if (stored === undefined || stored.status === 'pending') throw new AgentMeshError('ORGANIZATION_UNKNOWN')
    return this.#record(stored, now)
  }

  /** Looks again at records that were not looked at for a day. */
  async recheck(now: number): Promise<void> {
    const { certificates } = this.#store
    for (const organization of await certificates.takeDue(now - RECHECK, now, BATCH)) {
      const lostAt = await this.#isStillProved(organization, now).then(
        (proved) => (proved ? null : (organization.lost_at ?? now)),
        (error: unknown) => {
          if (!isAgentMeshError(error, 'DNS_UNAVAILABLE')) throw error
          return undefined
        },
      )
      await this.#store.transaction('note what the DNS says', async (tx) => {
        if (lostAt === undefined) {
          await certificates.setOrganization(tx, organization.amid, { checked_at: now - RECHECK + RETRY })
        } else if (lostAt !== null && now - lostAt >= GRACE) {
          await this.#authority.append(tx, await this.end(tx, organization.amid, 'suspended', now))
        } else {
          const status = lostAt === null ? 'verified' : 'grace'
          await certificates.setOrganization(tx, organization.amid, { status, lost_at: lostAt })
          const issued = lostAt === null ? await this.#certify(tx, organization, now) : undefined
          if (issued !== undefined) await this.#authority.append(tx, [certificateEntry(issued, now)])
        }
      })
    }
  }

  /**
   * Ends an organisation: its certificate is revoked, and its agents are what they are without it.
   *
   * @returns the entries for the log, which are the caller's to append last in its transaction
   */
  async end(
    tx: Transaction<Tables>,
    amid: Amid,
    status: 'suspended' | 'revoked',
    now: number,
  ): Promise<LogEntry[]> {
    const reason = status === 'revoked' ? 'superseded' : 'privilegeWithdrawn'
    return this.#authority.endOrganization(tx, amid, { status, reason }, now)
  }

  /** After a change of the intermediate: organisations in force are certified by the one that issues. */
  async recertify(now: number): Promise<void> {
    const { certificates } = this.#store
    for (const organization of await certificates.inForce()) {
      await this.#store.transaction('certify an organisation anew', async (tx) => {
        const issued = await this.#certify(tx, organization, now)
        if (issued === undefined) return
        await this.#restandMembers(tx, organization.amid, now)
        await this.#authority.append(tx, [certificateEntry(issued, now)])
      })
    }
  }

  async #isStillProved(organization: StoredOrganization, now: number): Promise<boolean> {
    try {
      checkProof(await this.#dns.proofs(organization.domain), organization, this.#proofKey, now)
      return true
    } catch (error) {
      if (!isAgentMeshError(error) || error.code === 'DNS_UNAVAILABLE') throw error
      return false
    }
  }

  /** Undefined when the certificate it has is good for long enough. */
  async #certify(
    tx: Transaction<Tables>,
    organization: StoredOrganization,
    now: number,
  ): Promise<Certificate | undefined> {
    const publicKey = parseKey('ed25519', organization.public_key)
    const name = shownOrganization(organization)
    const held = await this.#store.certificates.newest('organization', keyIdOf(organization.amid), now, tx)
    const isCurrent = held?.issuer === this.#authority.issuer.certificate.keyId
    if (held !== undefined && isCurrent && held.not_after - now > CERTIFICATE_RENEWAL) {
      const certificate = certificateFromText(held.der)
      if (certificate.subject.organization === name) return undefined
    }
    const certificate = parseCertificate(
      issueOrganization(
        {
          ...this.#authority.terms(CERTIFICATE_LIFETIMES.organization, now),
          organization: name,
          domain: organization.domain,
          publicKey,
        },
        this.#authority.issuer,
      ),
    )
    await this.#authority.add(tx, 'organization', certificate, organization.amid)
    return certificate
  }

  async #restandMembers(tx: Transaction<Tables>, amid: Amid, now: number): Promise<void> {
    for (const member of await this.#store.certificates.membersOf(tx, keyIdOf(amid), now)) {
      await this.#authority.restand(tx, member, now)
    }
  }

  async #record(organization: StoredOrganization, now: number): Promise<OrganizationRecord> {
    const { amid, domain, name, status, checked_at, lost_at } = organization
    const held =
      status === 'verified' || status === 'grace'
        ? await this.#store.certificates.newest('organization', keyIdOf(amid), now)
        : undefined
    return {
      amid,
      domain,
      name,
      status,
      ...(checked_at === 0 ? {} : { checked_at: formatTimestamp(checked_at) }),
      ...(lost_at === null ? {} : { lost_at: formatTimestamp(lost_at) }),
      ...(held === undefined ? {} : { certificate: held.der }),
    }
  }
}

/** An organisation's key is its AMID's. */
function keyIdOf(amid: Amid): string {
  return toHex(amidToBytes(amid))
}

/** @throws MALFORMED for a name that could be taken for another, or is too long beside its domain */
function checkName(name: string, domain: string): string {
  const isPlain = /^[^\p{C}\p{Zl}\p{Zp}()]+$/u.test(name) && name.trim() === name
  if (!isPlain || utf8Bytes(shownOrganization({ name, domain })).length > MAX_SHOWN_BYTES) {
    throw new AgentMeshError(
      'MALFORMED',
      `The name is printable text without parentheses, and with its domain at most ${MAX_SHOWN_BYTES - 3} bytes of UTF-8`,
    )
  }
  return name
}
