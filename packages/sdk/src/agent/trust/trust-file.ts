/**
 * `trust.json`: the registries whose certificates and credentials the owner believes (DESIGN §8). Each is known by the
 * fingerprint of its root, which the owner has compared, or which the agent met first at its own registry; what else the
 * registry says of itself is fetched again from time to time and follows from that root.
 */
import type { Static } from 'typebox'
import { openTrustDocument, type Home, type TrustedRegistry } from '../../identity/index.ts'
import {
  AgentMeshError,
  Embedded,
  formatTimestamp,
  isAgentMeshError,
  parseJsonObject,
  Timestamp,
  TrustDocument,
  utf8Bytes,
  validate,
  Type,
} from '../../wire/index.ts'

const TRUST_FILE = 'trust.json'
const MAX_REGISTRIES = 32
const MAX_FILE_BYTES = 4 * 1024 * 1024

const TrustEntry = Type.Object({
  fingerprint: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  /** `owner`: compared and added by hand; `first_use`: of the agent's own registry, as it was first met. */
  by: Type.Enum(['owner', 'first_use']),
  added_at: Timestamp,
  /** Why nothing it certifies counts: its log was found to contradict itself. */
  inconsistent: Type.Optional(Type.Object({ at: Timestamp, detail: Type.String({ maxLength: 512 }) })),
  document: Embedded(TrustDocument),
})
type TrustEntry = Static<typeof TrustEntry>
const TrustList = Type.Object({ registries: Type.Array(TrustEntry, { maxItems: MAX_REGISTRIES }) })

/** How the owner sees a trusted registry. */
export interface TrustSummary {
  readonly name: string
  readonly url: string
  readonly fingerprint: string
  readonly by: TrustEntry['by']
  readonly added_at: string
  /** Why its certificates cannot be used at this time. */
  readonly problem?: string
  /** Its log contradicted itself: nothing it certifies counts until the owner removes it and adds it again. */
  readonly inconsistent?: true
}

interface Known {
  readonly entry: TrustEntry
  readonly registry?: TrustedRegistry
  readonly problem?: string
}

export class TrustFile {
  readonly #home: Home
  readonly #now: () => number
  #known: Known[]

  /** @throws TRUST_INVALID: what the owner trusts is never guessed */
  constructor(home: Home, now: () => number) {
    this.#home = home
    this.#now = now
    const bytes = home.readFile(TRUST_FILE)
    this.#known = bytes === undefined ? [] : readList(bytes).map((entry) => this.#open(entry))
  }

  /** A service certificate that ran out while the agent was off makes a registry unusable until it is fetched again. */
  #open(entry: TrustEntry): Known {
    try {
      const { document, fingerprint } = entry
      return { entry, registry: openTrustDocument(document, { now: this.#now(), fingerprint }) }
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      return { entry, problem: `${error.code}: ${error.message}` }
    }
  }

  /** Those whose word counts. */
  get registries(): TrustedRegistry[] {
    return this.#opened((entry) => entry.inconsistent === undefined)
  }

  /** Those whose log contradicted itself. */
  get inconsistent(): TrustedRegistry[] {
    return this.#opened((entry) => entry.inconsistent !== undefined)
  }

  #opened(which: (entry: TrustEntry) => boolean): TrustedRegistry[] {
    return this.#known.flatMap(({ entry, registry }) =>
      registry === undefined || !which(entry) ? [] : [registry],
    )
  }

  list(): TrustSummary[] {
    return this.#known.map(({ entry, problem }) => ({
      name: entry.document.name,
      url: entry.document.url,
      fingerprint: entry.fingerprint,
      by: entry.by,
      added_at: entry.added_at,
      ...problemOf(entry, problem),
    }))
  }

  /**
   * Trusts a registry.
   *
   * @param raw its trust document
   * @param fingerprint of its root, as the owner compared it
   * @throws MALFORMED, CERTIFICATE_MALFORMED, CERTIFICATE_INVALID; TRUST_EXISTS for a name that another root has;
   *   TRUST_FULL, HOME_FAILED
   */
  add(raw: unknown, fingerprint: string, by: TrustEntry['by']): TrustedRegistry {
    return this.#put(raw, fingerprint, by)
  }

  #put(
    raw: unknown,
    fingerprint: string,
    by: TrustEntry['by'],
    inconsistent?: TrustEntry['inconsistent'],
  ): TrustedRegistry {
    const registry = openTrustDocument(raw, { now: this.#now(), fingerprint })
    const known = this.#known.find(({ entry }) => entry.fingerprint === fingerprint)
    if (!known && this.#known.length >= MAX_REGISTRIES) throw new AgentMeshError('TRUST_FULL')
    if (this.#known.some((other) => other !== known && other.entry.document.name === registry.name)) {
      throw new AgentMeshError('TRUST_EXISTS', `Another registry is trusted as ${registry.name}`)
    }
    const entry: TrustEntry = {
      fingerprint,
      by: known?.entry.by === 'owner' ? 'owner' : by,
      added_at: known?.entry.added_at ?? formatTimestamp(this.#now()),
      ...(inconsistent === undefined ? {} : { inconsistent }),
      document: validate(TrustDocument, raw),
    }
    this.#save([...this.#known.filter((other) => other !== known), { entry, registry }])
    return registry
  }

  /** Puts a newer document of the same root. @throws as `add` */
  renew(raw: unknown, fingerprint: string): void {
    const known = this.#known.find(({ entry }) => entry.fingerprint === fingerprint)
    if (known) this.#put(raw, fingerprint, known.entry.by, known.entry.inconsistent)
  }

  /** From now on nothing it certifies counts, across restarts. @throws HOME_FAILED */
  condemn(fingerprint: string, detail: string): void {
    const inconsistent = { at: formatTimestamp(this.#now()), detail }
    this.#save(
      this.#known.map((known) =>
        known.entry.fingerprint === fingerprint
          ? { ...known, entry: { ...known.entry, inconsistent } }
          : known,
      ),
    )
  }

  /** @param which name or fingerprint. @throws TRUST_UNKNOWN, HOME_FAILED */
  remove(which: string): TrustSummary {
    const found = this.list().find(({ name, fingerprint }) => name === which || fingerprint === which)
    if (!found) throw new AgentMeshError('TRUST_UNKNOWN')
    this.#save(this.#known.filter(({ entry }) => entry.fingerprint !== found.fingerprint))
    return found
  }

  #save(known: Known[]): void {
    const list = { registries: known.map(({ entry }) => entry) }
    this.#home.writeFile(TRUST_FILE, utf8Bytes(`${JSON.stringify(list, null, 2)}\n`))
    this.#known = known
  }
}

function problemOf(
  { inconsistent }: TrustEntry,
  problem: string | undefined,
): Pick<TrustSummary, 'problem' | 'inconsistent'> {
  if (inconsistent !== undefined) {
    return {
      inconsistent: true,
      problem: `LOG_INCONSISTENT since ${inconsistent.at}: ${inconsistent.detail}`,
    }
  }
  return problem === undefined ? {} : { problem }
}

function readList(bytes: Uint8Array): TrustEntry[] {
  try {
    return validate(TrustList, parseJsonObject(bytes, MAX_FILE_BYTES), `read ${TRUST_FILE}`).registries
  } catch (cause) {
    if (!isAgentMeshError(cause)) throw cause
    throw new AgentMeshError('TRUST_INVALID', `${TRUST_FILE}: ${cause.message}`, { cause })
  }
}
