/**
 * The registry's transparency log: signed heads and proofs over what the store holds (RFC 9162; `spec/transparency.md`).
 *
 * Nothing here is kept but the newest head this process signed. Several registries on one database sign heads of the same
 * tree, each with its own time.
 */
import type { KeyPair } from '@agentmesh/sdk/crypto/signing'
import {
  completeSubtrees,
  consistencyRanges,
  inclusionRanges,
  parseLogEntry,
  rootOfSubtrees,
  signTreeHead,
  type LeafRange,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  formatTimestamp,
  parseTimestamp,
  toBase64,
  type CertificateProof,
  type ConsistencyProof,
  type InclusionProof,
  type LogEntries,
  type TreeHead,
} from '@agentmesh/sdk/wire'
import type { TransparencyStore } from '../store/transparency-store.ts'

/** How long one signature stands for a log that does not grow. */
const HEAD_SECONDS = 300

export class TransparencyLog {
  readonly #store: TransparencyStore
  readonly #registry: { readonly fingerprint: string; readonly serviceKey: KeyPair }
  #head: TreeHead | undefined

  constructor(
    store: TransparencyStore,
    registry: { readonly fingerprint: string; readonly serviceKey: KeyPair },
  ) {
    this.#store = store
    this.#registry = registry
  }

  /** Of everything that is committed. */
  async head(now: number): Promise<TreeHead> {
    const size = await this.#store.size()
    const known = this.#head
    if (known?.size === size) {
      const age = now - parseTimestamp(known.timestamp)
      if (age >= 0 && age < HEAD_SECONDS * 1000) return known
    }
    const rootHash = await this.#root({ start: 0, end: size })
    const head = signTreeHead(this.#registry, { size, rootHash, timestamp: now })
    // A request that read an earlier size may end after one that read a later one.
    if (size >= (this.#head?.size ?? 0)) this.#head = head
    return head
  }

  /** @throws NOT_FOUND unless `index` < `size` <= the size of the log */
  async inclusion(index: number, size: number): Promise<InclusionProof> {
    await this.#checkSizes(index + 1, size)
    const [leaf, ...path] = await this.#roots([
      { start: index, end: index + 1 },
      ...inclusionRanges(index, size),
    ])
    return { index, size, leaf_hash: toBase64(leaf), path: path.map(toBase64) }
  }

  /** @throws NOT_FOUND unless `from` <= `to` <= the size of the log */
  async consistency(from: number, to: number): Promise<ConsistencyProof> {
    await this.#checkSizes(from, to)
    const path = await this.#roots(consistencyRanges(from, to))
    return { from, to, path: path.map(toBase64) }
  }

  /**
   * A page that begins at `start`: at most `limit` entries, and at most `maxBytes` of them but always one. Empty at the end
   * of the log.
   *
   * @throws NOT_FOUND beyond the end of the log
   */
  async entries(start: number, limit: number, maxBytes: number): Promise<LogEntries> {
    await this.#checkSizes(start, start)
    const entries: string[] = []
    let bytes = 0
    for (const entry of await this.#store.entries(start, limit)) {
      bytes += entry.length
      if (bytes > maxBytes && entries.length > 0) break
      entries.push(toBase64(entry))
    }
    return { start, entries }
  }

  /**
   * The proof an agent shows for its certificate, under the newest head.
   *
   * @param hash lower-case hex of SHA-256 of the certificate's DER
   * @throws NOT_FOUND when the log does not have it
   */
  async certificateProof(hash: string, now: number): Promise<CertificateProof> {
    const found = await this.#store.findCertificate(hash)
    if (found === undefined) throw new AgentMeshError('NOT_FOUND', 'The log has no such certificate')
    const tree_head = await this.head(now)
    const { path } = await this.inclusion(found.index, tree_head.size)
    const entry_timestamp = formatTimestamp(parseLogEntry(found.entry).timestamp)
    return { tree_head, index: found.index, entry_timestamp, path }
  }

  async #checkSizes(smaller: number, larger: number): Promise<void> {
    if (smaller > larger || larger > (await this.#store.size())) {
      throw new AgentMeshError('NOT_FOUND', 'The log is not that long')
    }
  }

  async #root(range: LeafRange): Promise<Uint8Array> {
    return rootOfSubtrees(await this.#store.subtreeHashes(completeSubtrees(range)))
  }

  /** Of several ranges, in one read. */
  async #roots<const Ranges extends readonly LeafRange[]>(
    ranges: Ranges,
  ): Promise<{ [Place in keyof Ranges]: Uint8Array }> {
    const parts = ranges.map(completeSubtrees)
    const hashes = await this.#store.subtreeHashes(parts.flat())
    let at = 0
    const roots = parts.map((part) => rootOfSubtrees(hashes.slice(at, (at += part.length))))
    return roots as { [Place in keyof Ranges]: Uint8Array }
  }
}
