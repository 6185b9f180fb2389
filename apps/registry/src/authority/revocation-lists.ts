/**
 * Revocation lists (RFC 5280 §5): those of the registry's own issuers, signed here, and those that organisations bring.
 *
 * The list that counts is the one in the database, so that several registries serve the same. It is made anew with every
 * revocation, in the same transaction, and once in a while without one, since agents do not trust an old list.
 */
import {
  certificateFromText,
  issueCrl,
  parseCrl,
  verifyCrl,
  type Crl,
  type CrlEntry,
  type Issuer,
  type RevocationReason,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  fromBase64,
  toBase64,
  toHex,
  amidToBytes,
  type Amid,
} from '@agentmesh/sdk/wire'
import type { Transaction } from 'kysely'
import type { Store } from '../store/store.ts'
import type { Tables } from '../store/tables.ts'
import type { AuthorityKeys } from './authority-keys.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** How long a list may be relied on, and after what time there is a new one. */
const LIST_LIFETIME = DAY
const LIST_RENEWAL = 6 * HOUR
/** A revoked certificate stays on the list beyond its end (RFC 5280 §3.3: on one list at least). */
const KEPT_AFTER_END = 2 * DAY
/** An organisation's list may promise no more. */
const MAX_FOREIGN_LIFETIME = 100 * DAY

export class RevocationLists {
  readonly #store: Store
  readonly #keys: AuthorityKeys

  constructor(store: Store, keys: AuthorityKeys) {
    this.#store = store
    this.#keys = keys
  }

  get #intermediates(): readonly Issuer[] {
    return [this.#keys.intermediate, ...this.#keys.retired]
  }

  /** New lists of those of the registry's own issuers that revoked something. Call in the transaction that did. */
  async renewFor(
    tx: Transaction<Tables>,
    revoked: readonly { readonly issuer: string }[],
    now: number,
  ): Promise<void> {
    for (const { certificate } of this.#intermediates) {
      if (revoked.some(({ issuer }) => issuer === certificate.keyId))
        await this.renewOwn(tx, certificate.keyId, now)
    }
  }

  /** The registry's own issuer of that key id, with the key to sign its list. */
  #ownIssuer(keyId: string): Issuer | undefined {
    const { root, rootKey } = this.#keys
    const known = this.#intermediates.find(({ certificate }) => certificate.keyId === keyId)
    if (known !== undefined) return known
    return keyId === root.keyId && rootKey !== undefined ? { certificate: root, signing: rootKey } : undefined
  }

  /** @returns base64 DER. @throws NOT_FOUND */
  async current(keyId: string, now: number): Promise<string> {
    if (this.#ownIssuer(keyId) !== undefined) await this.#renewWhenDue(keyId, now)
    const list = await this.#store.certificates.list(keyId)
    if (list === undefined) throw new AgentMeshError('NOT_FOUND', 'This issuer has no revocation list here')
    return list.der
  }

  /** The lists of several issuers, for checking a path. */
  async several(keyIds: readonly string[], now: number): Promise<Map<string, Crl>> {
    const lists = new Map<string, Crl>()
    for (const keyId of keyIds) {
      if (this.#ownIssuer(keyId) !== undefined) await this.#renewWhenDue(keyId, now)
      const list = await this.#store.certificates.list(keyId)
      if (list !== undefined) lists.set(keyId, parseCrl(fromBase64(list.der)))
    }
    return lists
  }

  async renewDue(now: number): Promise<void> {
    const { root, rootKey, rootList } = this.#keys
    for (const { certificate } of this.#intermediates) await this.#renewWhenDue(certificate.keyId, now)
    if (rootKey !== undefined) {
      await this.#renewWhenDue(root.keyId, now)
      return
    }
    const list = parseCrl(rootList)
    const stored = await this.#store.certificates.list(root.keyId)
    if (stored !== undefined && stored.number >= list.number) return
    await this.#store.transaction('store the root’s list', (tx) =>
      this.#store.certificates.putForeignList(tx, {
        issuer: root.keyId,
        number: list.number,
        der: toBase64(list.der),
        this_update: list.thisUpdate,
        next_update: list.nextUpdate,
      }),
    )
  }

  async #renewWhenDue(keyId: string, now: number): Promise<void> {
    const list = await this.#store.certificates.list(keyId)
    if (list !== undefined && list.this_update > now - LIST_RENEWAL) return
    await this.#store.transaction('renew a revocation list', (tx) => this.renewOwn(tx, keyId, now))
  }

  /** Makes a new list of one of the registry's own issuers. What the transaction revoked stands on it. */
  async renewOwn(tx: Transaction<Tables>, keyId: string, now: number): Promise<void> {
    const issuer = this.#ownIssuer(keyId)
    if (issuer === undefined) throw new AgentMeshError('INTERNAL')
    const { certificates } = this.#store
    const number = await certificates.nextListNumber(tx, keyId)
    const revoked = await certificates.revoked(tx, keyId, now - KEPT_AFTER_END)
    const thisUpdate = now - CLOCK_SKEW_SECONDS * 1000
    const nextUpdate = now + LIST_LIFETIME
    const entries = revoked.map(({ serial, revoked_at, reason }): CrlEntry => ({
      serial,
      revokedAt: revoked_at ?? now,
      reason: (reason ?? 'unspecified') as RevocationReason,
    }))
    const der = issueCrl({ entries, number, thisUpdate, nextUpdate }, issuer)
    await certificates.putList(tx, {
      issuer: keyId,
      number,
      der: toBase64(der),
      this_update: now,
      next_update: nextUpdate,
    })
  }

  /**
   * Checks a list that an organisation brings.
   *
   * @throws ORGANIZATION_UNKNOWN, NOT_OWNER, CERTIFICATE_MALFORMED, CERTIFICATE_INVALID
   */
  async readForeign(keyId: string, bringer: Amid, der: Uint8Array, now: number): Promise<Crl> {
    if (toHex(amidToBytes(bringer)) !== keyId) throw new AgentMeshError('NOT_OWNER')
    const held = await this.#store.certificates.newest('organization', keyId, now)
    if (held === undefined) throw new AgentMeshError('ORGANIZATION_UNKNOWN')
    const crl = parseCrl(der)
    if (verifyCrl(crl, certificateFromText(held.der), now) !== 'current') {
      throw new AgentMeshError('CERTIFICATE_INVALID', 'The list is out of date')
    }
    if (crl.nextUpdate > now + MAX_FOREIGN_LIFETIME) {
      throw new AgentMeshError('CERTIFICATE_INVALID', 'The list promises to hold for more than 100 days')
    }
    return crl
  }
}
