/**
 * Keeps what this agent can prove of itself, and what it needs to check what peers prove (DESIGN §8).
 *
 *   trusted registries   their own certificates, daily; their revocation lists, before they run out; the heads of their
 *                        logs, each held against the one before
 *   of ourselves         certificate (renewed when a third of its life is left), its place in the log (daily), reputation
 *                        credential (renewed at half its life), ratings that wait for the registry
 *   an organisation      its revocation list, its certificate
 *   peers                who says to go on as one of them
 *
 * Nothing of it holds up a message: what could not be fetched is tried again at the next turn, and a check says what was
 * missing.
 */
import {
  certificateFromText,
  ChainCache,
  isSignedBy,
  certificateFingerprint,
  openTrustDocument,
  parseCrl,
  verifyCrl,
  type Certificate,
  type Crl,
  type TrustedRegistry,
} from '../../identity/index.ts'
import {
  AgentMeshError,
  formatTimestamp,
  isAgentMeshError,
  parseTimestamp,
  type CertificateProof,
  type ReputationCredential,
  type TierNumber,
} from '../../wire/index.ts'
import {
  issuersToCheck,
  verifyStanding,
  type ChainSubject,
  type CheckedStanding,
  type OwnStanding,
  type Shown,
} from '../../session/index.ts'
import type { Closings } from '../closings.ts'
import { audit, background, commit, type Core } from '../core.ts'
import { followLog, headKey } from './log-follower.ts'
import { Memberships, organizationIn } from './memberships.ts'
import { OrganizationKeeper } from './organization-keeper.ts'
import type { Successions } from './successions.ts'
import type { TrustSummary } from './trust-file.ts'

const WORK_EVERY_MS = 10 * 60_000
const RETRY_MS = 30_000
const DAY_MS = 86_400_000
/** Nobody waits longer than this for the list of an issuer that was met for the first time. */
const FETCH_MS = 3_000
/** A list that could not be had is not asked for again before. */
const ASK_AGAIN_MS = 60_000
const MAX_LISTS = 256
/** The owner removed the own registry: it is not trusted again by itself. */
const HOME_REMOVED = 'home_removed'

/** What this agent can prove of itself, as it is kept. */
export interface OwnCertificates {
  readonly tier: TierNumber
  /** Base64 DER: agent, and organisation when there is one. */
  readonly chain: readonly string[]
  readonly proof: CertificateProof
  /** Milliseconds since the epoch. */
  readonly notBefore: number
  readonly notAfter: number
  readonly displayName?: string
  readonly organization?: string
}

/** Whose revocation list a check needs. */
interface CrlIssuer {
  readonly registry: TrustedRegistry
  readonly certificate: Certificate
}

/** Thrown to undo a commit: the check of a KNOCK waits until these lists were asked for. */
export class ListsNeeded extends Error {
  readonly issuers: readonly CrlIssuer[]

  constructor(issuers: readonly CrlIssuer[]) {
    super('Revocation lists are to be fetched')
    this.issuers = issuers
  }
}

export class TrustKeeper {
  readonly #core: Core
  readonly #closings: Closings
  readonly #organization: OrganizationKeeper
  readonly #memberships: Memberships
  readonly #successions: Successions
  readonly #distrust: (registry: string) => Promise<void>
  readonly #cache = new ChainCache()
  readonly #lists = new Map<string, Crl>()
  readonly #askAgainAt = new Map<string, number>()
  readonly #refreshedAt = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #working: Promise<void> = Promise.resolve()
  #stopped = true
  #problem: string | undefined

  /** @param distrust called with the name of a registry whose word counts no more */
  constructor(
    core: Core,
    closings: Closings,
    successions: Successions,
    distrust: (registry: string) => Promise<void>,
  ) {
    this.#distrust = distrust
    this.#core = core
    this.#organization = new OrganizationKeeper(core)
    this.#memberships = new Memberships(core)
    this.#closings = closings
    this.#successions = successions
    for (const { key, value } of core.store.tables.crls.list()) this.#lists.set(key, parseCrl(value))
  }

  start(): void {
    this.#stopped = false
    this.#schedule(0)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#working
  }

  /** Why the last turn did not do all it should. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** The certificates in date. */
  get certificates(): OwnCertificates | undefined {
    const own = this.#core.store.tables.meta.get('certificates') as OwnCertificates | undefined
    return own !== undefined && own.notAfter > this.#core.now() ? own : undefined
  }

  /** What goes into our KNOCKs and ACCEPTs. */
  get standing(): OwnStanding {
    const { certificates: own, credential: reputation } = this
    const [agent, organization] = (own?.chain ?? []).map(certificateFromText)
    return {
      ...(own === undefined || agent === undefined
        ? {}
        : {
            certificates: {
              agent,
              ...(organization === undefined ? {} : { organization }),
              proof: own.proof,
            },
          }),
      ...(reputation === undefined ? {} : { reputation }),
    }
  }

  /** The registry's word on our reputation, while it is in date. */
  get credential(): ReputationCredential | undefined {
    const credential = this.#core.store.tables.meta.get('credential') as ReputationCredential | undefined
    return credential !== undefined && parseTimestamp(credential.expires_at) > this.#core.now()
      ? credential
      : undefined
  }

  /** The registries the owner trusts. */
  list(): TrustSummary[] {
    return this.#core.trust.list()
  }

  /**
   * What a registry says it is, for the owner to compare with what its operator says elsewhere.
   *
   * @throws REGISTRY_UNREACHABLE, TIER_UNAVAILABLE (it has no certificates), CERTIFICATE_INVALID
   */
  async inspect(url: string): Promise<Pick<TrustSummary, 'name' | 'url' | 'fingerprint'>> {
    const document = await this.#core.registries.at(url).trust()
    const { name, url: itself, fingerprint } = openTrustDocument(document, { now: this.#core.now() })
    return { name, url: itself, fingerprint }
  }

  /**
   * Trusts a registry: from now on its certificates and credentials count, and peers are looked up there too. One whose log
   * contradicted itself gets another chance: it is followed from what it shows then.
   *
   * @param fingerprint of its root, lower-case hex, as the owner compared it
   * @throws as `inspect`; CERTIFICATE_INVALID for another root; TRUST_EXISTS, TRUST_FULL
   */
  async add(url: string, fingerprint: string): Promise<void> {
    const document = await this.#core.registries.at(url).trust()
    const { name } = this.#core.trust.add(document, fingerprint, 'owner')
    const { meta } = this.#core.store.tables
    await commit(this.#core, () => {
      meta.delete(headKey(fingerprint))
      if (this.#isHome(url)) meta.delete(HOME_REMOVED)
    })
    audit(this.#core, { event: 'registry_trusted', registry: name, fingerprint, by: 'owner' })
    this.#schedule(0)
  }

  /** @param which name or fingerprint. @throws TRUST_UNKNOWN */
  remove(which: string): TrustSummary {
    const removed = this.#core.trust.remove(which)
    const { name: registry, fingerprint } = removed
    audit(this.#core, { event: 'registry_distrusted', registry, fingerprint })
    const { meta } = this.#core.store.tables
    const forgotten = commit(this.#core, () => {
      meta.delete(headKey(fingerprint))
      // Else the next turn would meet it anew, and trust it again.
      if (this.#isHome(removed.url)) meta.put(HOME_REMOVED, fingerprint)
    })
    background(
      this.#core,
      'distrust a registry',
      forgotten.then(() => this.#distrust(registry)),
    )
    return removed
  }

  /** What a peer shows for itself, checked against the registries the owner trusts. */
  check(shown: Shown, subject: ChainSubject): CheckedStanding {
    const { trust, policy, now } = this.#core
    const context = {
      registries: trust.registries,
      inconsistent: trust.inconsistent,
      crlOf: (keyId: string) => this.#lists.get(keyId),
      unknownRevocation: policy.current().unknown_revocation,
      cache: this.#cache,
    }
    return verifyStanding(shown, subject, context, now())
  }

  /**
   * Before `check`, within a commit that may be done again.
   *
   * @throws ListsNeeded when a list that the check will ask for is missing or has run out, and is worth asking for
   */
  requireLists(chain: Shown['certificate_chain']): void {
    const concerned = issuersToCheck(chain, this.#core.trust)
    if (concerned === undefined) return
    const { registry, keyIds } = concerned
    const now = this.#core.now()
    const known = [registry.root, ...registry.intermediates]
    const top = certificateFromText(chain?.at(-1) ?? '')
    // Only of an organisation that the registry certified: else anybody could have us ask for anything.
    if (known.some((issuer) => isSignedBy(top, issuer))) known.push(top)
    const issuers = known.filter(({ keyId }) => {
      const list = this.#lists.get(keyId)
      const isWanted = keyIds.includes(keyId) && (list === undefined || list.nextUpdate <= now)
      return isWanted && (this.#askAgainAt.get(keyId) ?? 0) <= now
    })
    if (issuers.length > 0) throw new ListsNeeded(issuers.map((certificate) => ({ registry, certificate })))
  }

  /** Fetches the lists of these issuers; returns when they are there, or cannot be had in time. */
  async fetchLists(issuers: readonly CrlIssuer[]): Promise<void> {
    const fetched = Promise.allSettled(issuers.map((issuer) => this.#fetchList(issuer)))
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FETCH_MS)
    })
    await Promise.race([fetched, late])
    clearTimeout(timer)
  }

  async #fetchList({ registry, certificate }: CrlIssuer): Promise<void> {
    const { keyId } = certificate
    const now = this.#core.now()
    this.#askAgainAt.set(keyId, now + ASK_AGAIN_MS)
    const crl = await this.#core.registries.at(registry.url).crl(keyId)
    verifyCrl(crl, certificate, now)
    const known = this.#lists.get(keyId)
    // A registry that answers with an older list would bring revoked certificates back.
    if (known !== undefined && crl.number < known.number) {
      throw new AgentMeshError(
        'REGISTRY_ANSWER_INVALID',
        'The registry answered with an older revocation list',
      )
    }
    await commit(this.#core, () => {
      const { crls } = this.#core.store.tables
      crls.put(keyId, crl.der, { a: registry.fingerprint, at: crl.nextUpdate })
      for (const { key } of crls.list({ limit: Math.max(0, crls.count() - MAX_LISTS) })) {
        crls.delete(key)
        this.#lists.delete(key)
      }
    })
    this.#lists.set(keyId, crl)
    this.#askAgainAt.delete(keyId)
  }

  /**
   * Fetches all of it anew, now: after the owner trusted a registry, or was verified.
   *
   * @throws REGISTRY_UNREACHABLE with the first thing that did not work
   */
  async refresh(): Promise<void> {
    this.#refreshedAt.clear()
    clearTimeout(this.#timer)
    await this.#turn(true)
    if (this.#problem !== undefined) throw new AgentMeshError('REGISTRY_UNREACHABLE', this.#problem)
  }

  #schedule(delay: number): void {
    if (this.#stopped) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => background(this.#core, 'keep certificates', this.#turn()), delay)
    this.#timer.unref()
  }

  #turn(atOnce = false): Promise<void> {
    this.#working = this.#working.then(() => this.#work(atOnce))
    return this.#working
  }

  async #work(atOnce: boolean): Promise<void> {
    const problems: string[] = []
    const attempt = async (work: () => Promise<void>): Promise<void> => {
      try {
        await work()
      } catch (error) {
        if (!isAgentMeshError(error)) throw error
        // A registry without certificates has none to fetch.
        if (error.code !== 'TIER_UNAVAILABLE') problems.push(`${error.code}: ${error.message}`)
      }
    }
    await attempt(() => this.#leaveUnjoined())
    await attempt(() => this.#meetHome())
    for (const { fingerprint, url } of this.#core.trust.list()) {
      await attempt(() => this.#refreshDocument(fingerprint, url))
    }
    for (const registry of this.#core.trust.registries) {
      await attempt(() => this.#refreshLists(registry, atOnce))
      await attempt(() => this.#followLog(registry))
    }
    const home = this.#homeRegistry()
    if (home !== undefined) {
      await attempt(() => this.#certify(home))
      await attempt(() => this.#renewCredential())
    }
    await attempt(() => this.#organization.keep())
    await attempt(() => this.#closings.submit())
    await attempt(() => this.#successions.look(atOnce))
    this.#problem = problems[0]
    this.#schedule(problems.length === 0 ? WORK_EVERY_MS : RETRY_MS)
  }

  #isHome(url: string): boolean {
    return new URL(url).origin === new URL(this.#core.config.registry).origin
  }

  /** Also while its word does not count here: it may elsewhere. */
  #homeRegistry(): TrustedRegistry | undefined {
    const { registries, inconsistent } = this.#core.trust
    return [...registries, ...inconsistent].find(({ url }) => this.#isHome(url))
  }

  /** The own registry is trusted as it was first met, unless the owner removed it; another root in its place is refused, and the owner told. */
  async #meetHome(): Promise<void> {
    const { registries, trust, store, now } = this.#core
    if (trust.list().some(({ url }) => this.#isHome(url))) return
    if (store.tables.meta.get(HOME_REMOVED) !== undefined) return
    const document = await registries.home.trust()
    const { fingerprint, name, url } = openTrustDocument(document, { now: now() })
    if (!this.#isHome(url)) return
    trust.add(document, fingerprint, 'first_use')
    audit(this.#core, { event: 'registry_trusted', registry: name, fingerprint, by: 'first_use' })
  }

  async #refreshDocument(fingerprint: string, url: string): Promise<void> {
    const now = this.#core.now()
    const refreshedAt = this.#refreshedAt.get(fingerprint)
    if (refreshedAt !== undefined && now - refreshedAt < DAY_MS) return
    this.#core.trust.renew(await this.#core.registries.at(url).trust(), fingerprint)
    this.#refreshedAt.set(fingerprint, now)
  }

  async #refreshLists(registry: TrustedRegistry, atOnce: boolean): Promise<void> {
    const now = this.#core.now()
    for (const certificate of [registry.root, ...registry.intermediates]) {
      const known = this.#lists.get(certificate.keyId)
      // At half its life, so that some failed tries do not leave us without; daily, since a root's list holds for a year.
      const isFresh = known !== undefined && now < (known.thisUpdate + known.nextUpdate) / 2
      const askedAt = this.#refreshedAt.get(certificate.keyId)
      const isDaily = askedAt !== undefined && now - askedAt < DAY_MS
      if (isFresh && isDaily && !atOnce) continue
      await this.#fetchList({ registry, certificate })
      this.#refreshedAt.set(certificate.keyId, now)
    }
  }

  /** A log that does not continue what it said before has told two stories: nothing its registry says counts any more. */
  async #followLog(registry: TrustedRegistry): Promise<void> {
    try {
      await followLog(this.#core, registry)
    } catch (error) {
      if (isAgentMeshError(error, 'LOG_INCONSISTENT')) await this.#condemn(registry, error)
      throw error
    }
  }

  async #condemn({ name, fingerprint }: TrustedRegistry, { message }: AgentMeshError): Promise<void> {
    this.#core.trust.condemn(fingerprint, message)
    audit(this.#core, { event: 'registry_inconsistent', registry: name, fingerprint, detail: message })
    const text =
      `${name} may have issued false certificates: ${message}. What it certifies counts for nothing here, until you ` +
      `remove it and add it again (agentmesh trust remove, trust add)`
    this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about: 'trust', text })
    await this.#distrust(name)
  }

  /** What is kept of an organisation is shown no more unless the owner joined it. */
  async #leaveUnjoined(): Promise<void> {
    const issuer = organizationIn(this.certificates?.chain ?? [])
    if (issuer === undefined || this.#memberships.holds(issuer)) return
    await this.#setOwn(undefined)
    await this.#memberships.refused(issuer)
  }

  /** Fetches our certificate when the registry says we have one and ours is not good for long any more. */
  async #certify(home: TrustedRegistry): Promise<void> {
    const { registries, identity, now } = this.#core
    const { tier } = await registries.home.lookup(identity.amid)
    const own = this.certificates
    if (tier === 2) {
      if (own !== undefined) await this.#setOwn(undefined)
      return
    }
    const proofAge = own === undefined ? 0 : now() - parseTimestamp(own.proof.tree_head.timestamp)
    // An issuer of it may have been revoked, or may not be the registry's any more.
    const holds = own === undefined || this.#isValid(own)
    const third = own === undefined ? 0 : own.notBefore + ((own.notAfter - own.notBefore) * 2) / 3
    if (own !== undefined && holds && own.tier === tier && now() < third) {
      if (proofAge < DAY_MS) return
      const leaf = certificateFromText(own.chain[0] ?? '')
      const proof = await registries.home.certificateProof(certificateFingerprint(leaf))
      await this.#setOwn({ ...own, proof })
      return
    }
    const { chain, proof } = await registries.home.agentCertificate()
    const leaf = certificateFromText(chain[0] ?? '')
    const issuer = organizationIn(chain)
    if (issuer !== undefined && !this.#memberships.holds(issuer)) return this.#memberships.refused(issuer)
    const { organization, commonName } = leaf.subject
    const isNew = own?.chain[0] !== chain[0]
    const joins = organization !== undefined && own?.organization !== organization
    await this.#setOwn({
      tier: organization === undefined ? 1 : 1.5,
      chain,
      proof,
      notBefore: leaf.notBefore,
      notAfter: leaf.notAfter,
      ...(commonName === undefined || commonName === identity.amid ? {} : { displayName: commonName }),
      ...(organization === undefined ? {} : { organization }),
    })
    if (!isNew) return
    if (joins && issuer !== undefined) this.#memberships.adopted(issuer)
    audit(this.#core, {
      event: 'certificate_renewed',
      registry: home.name,
      serial: leaf.serial,
      expires_at: formatTimestamp(leaf.notAfter),
    })
  }

  #isValid({ chain, proof }: OwnCertificates): boolean {
    const shown = { certificate_chain: [...chain], certificate_proof: proof }
    const { findings } = this.check(shown, { from: this.#core.identity.amid })
    return findings['chain'] === 'valid' || findings['chain'] === 'log_inconsistent'
  }

  async #setOwn(own: OwnCertificates | undefined): Promise<void> {
    const { meta } = this.#core.store.tables
    await commit(this.#core, () =>
      own === undefined ? meta.delete('certificates') : meta.put('certificates', own),
    )
    this.#core.events.emit('connection')
  }

  async #renewCredential(): Promise<void> {
    const { registries, store, now } = this.#core
    const known = this.credential
    if (known) {
      const half = (parseTimestamp(known.issued_at) + parseTimestamp(known.expires_at)) / 2
      if (now() < half) return
    }
    const credential = await registries.home.reputationCredential()
    await commit(this.#core, () => store.tables.meta.put('credential', credential))
  }
}
