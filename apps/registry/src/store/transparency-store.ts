/**
 * Queries of the transparency log, over both databases.
 *
 * Appending counts first: `update log_state` is the row lock of PostgreSQL and the write lock of SQLite, held to the end of
 * the caller's transaction. So an index is given out once, to one of all registries on the database, and what is undone
 * leaves no hole. Readers see committed rows only, and rows below a size they have read never change.
 */
import type { Kysely, Transaction } from 'kysely'
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import { encodeLogEntry, leafHash, nodeHash, type LogEntry, type Subtree } from '@agentmesh/sdk/identity'
import { AgentMeshError, fromBase64, isAgentMeshError, toBase64, toHex } from '@agentmesh/sdk/wire'
import type { Tables } from './tables.ts'

const STATE_ROW = 1

export interface StoredLogEntry {
  readonly index: number
  readonly entry: Uint8Array
}

export class TransparencyStore {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  /**
   * Appends within the caller's transaction. Other transactions that append wait from here to its end, so this comes last
   * in it, behind every other row it locks.
   *
   * @returns the index of the entry
   * @throws TOO_LARGE, INVALID_TIMESTAMP, and what the database says
   */
  async append(tx: Transaction<Tables>, entry: LogEntry): Promise<number> {
    const bytes = encodeLogEntry(entry)
    const { size } = await tx
      .updateTable('log_state')
      .set((row) => ({ size: row('size', '+', 1) }))
      .where('id', '=', STATE_ROW)
      .returning('size')
      .executeTakeFirstOrThrow()
    const index = size - 1
    await tx
      .insertInto('log_entries')
      .values({
        position: index,
        entry: toBase64(bytes),
        certificate_hash: entry.kind === 'certificate' ? toHex(sha256(entry.content)) : null,
      })
      .execute()
    await tx
      .insertInto('log_nodes')
      .values(await nodesOf(tx, index, leafHash(bytes)))
      .execute()
    return index
  }

  size(): Promise<number> {
    return this.#read('read the size of the log', async () => {
      const row = await this.#db
        .selectFrom('log_state')
        .select('size')
        .where('id', '=', STATE_ROW)
        .executeTakeFirstOrThrow()
      return row.size
    })
  }

  /** The hashes of complete subtrees that lie within the log, in the order asked for. */
  subtreeHashes(subtrees: readonly Subtree[]): Promise<Uint8Array[]> {
    if (subtrees.length === 0) return Promise.resolve([])
    return this.#read('read hashes of the log', () => readNodes(this.#db, subtrees))
  }

  /** Entries from `start` on, in order; fewer than `limit` at the end of the log. */
  entries(start: number, limit: number): Promise<Uint8Array[]> {
    return this.#read('read entries of the log', async () => {
      const rows = await this.#db
        .selectFrom('log_entries')
        .select('entry')
        .where('position', '>=', start)
        .orderBy('position')
        .limit(limit)
        .execute()
      return rows.map(({ entry }) => fromBase64(entry))
    })
  }

  /** The first entry of a certificate. @param hash lower-case hex of SHA-256 of its DER */
  findCertificate(hash: string): Promise<StoredLogEntry | undefined> {
    return this.#read('find a certificate in the log', async () => {
      const row = await this.#db
        .selectFrom('log_entries')
        .select(['position', 'entry'])
        .where('certificate_hash', '=', hash)
        .orderBy('position')
        .limit(1)
        .executeTakeFirst()
      return row === undefined ? undefined : { index: row.position, entry: fromBase64(row.entry) }
    })
  }

  async #read<T>(operation: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (cause) {
      if (isAgentMeshError(cause)) throw cause
      throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
    }
  }
}

function nodeOf({ level, position }: Subtree): number {
  return position * 2 ** (level + 1) + 2 ** level - 1
}

async function readNodes(db: Kysely<Tables>, subtrees: readonly Subtree[]): Promise<Uint8Array[]> {
  const nodes = subtrees.map(nodeOf)
  const rows = await db.selectFrom('log_nodes').selectAll().where('node', 'in', nodes).execute()
  const hashes = new Map(rows.map(({ node, hash }) => [node, fromBase64(hash)]))
  return nodes.map((node) => {
    const hash = hashes.get(node)
    if (hash === undefined) throw new Error(`The log has no node ${node}`)
    return hash
  })
}

/** The subtrees that the leaf at `index` completes: itself, and one a level for every complete one that ends before it. */
async function nodesOf(
  tx: Transaction<Tables>,
  index: number,
  leaf: Uint8Array,
): Promise<Tables['log_nodes'][]> {
  const beside: Subtree[] = []
  for (let level = 0, position = index; position % 2 === 1; level++, position = (position - 1) / 2) {
    beside.push({ level, position: position - 1 })
  }
  const lefts = beside.length === 0 ? [] : await readNodes(tx, beside)
  let hash = leaf
  return [
    { node: nodeOf({ level: 0, position: index }), hash: toBase64(hash) },
    ...lefts.map((left, below) => {
      hash = nodeHash(left, hash)
      const level = below + 1
      return { node: nodeOf({ level, position: Math.floor(index / 2 ** level) }), hash: toBase64(hash) }
    }),
  ]
}
