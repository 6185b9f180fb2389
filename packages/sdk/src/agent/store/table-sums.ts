/**
 * How many rows each table has, and which: a seal shows a row that was changed, these sums one that is gone, or that was
 * put back as it once was. They move with every row and are sealed as one record, in the commit that moves the rows.
 *
 *     sum of a table = XOR over its rows of HMAC-SHA-256(subkey of the storage key, nonce of the seal), first 16 bytes
 *
 * A nonce is drawn anew whenever a row is written, so it stands for the row as it is; who has not the key cannot choose
 * rows whose parts cancel out. An older file that is put back whole has sums that fit: `state-mark.ts` is for that.
 */
import { hkdfSha256, hmacSha256 } from '../../crypto/index.ts'
import { open, seal } from '../../crypto/sealing.ts'
import type { RandomBytes } from '../../crypto/signing.ts'
import { AgentMeshError, fromBase64, toBase64, utf8Bytes, utf8Text } from '../../wire/index.ts'
import type { Database, SqlRow } from './sqlite.ts'

const PLACE = utf8Bytes('agentmesh/0.2 state sums')
const SUM_BYTES = 16
const NO_SALT = new Uint8Array(0)

/** The nonce of a sealed row, in SQL: behind the version byte (crypto/sealing.ts). */
export const NONCE_COLUMN = 'substr(sealed, 2, 24) AS nonce'
export const nonceOf = (sealed: Uint8Array): Uint8Array => sealed.slice(1, 25)

interface Sum {
  count: number
  readonly sum: Uint8Array
}

export class TableSums {
  readonly #key: Uint8Array
  readonly #subkey: Uint8Array
  readonly #random: RandomBytes
  #sums = new Map<string, Sum>()
  /** As they were before the group, of the tables that it moved. */
  readonly #before = new Map<string, Sum | undefined>()
  #isChanged = false

  constructor(storageKey: Uint8Array, random: RandomBytes) {
    this.#key = storageKey
    this.#subkey = hkdfSha256(storageKey, NO_SALT, PLACE, 32)
    this.#random = random
  }

  /** What a row whose seal has this nonce adds. */
  partOf(nonce: Uint8Array): Uint8Array {
    return hmacSha256(this.#subkey, nonce).subarray(0, SUM_BYTES)
  }

  /** A row went, one came, or one took the other's place: their parts. Called the other way round, it is undone. */
  move(table: string, gone: Uint8Array | undefined, come: Uint8Array | undefined): void {
    if (!this.#before.has(table)) this.#before.set(table, copy(this.#sums.get(table)))
    this.#isChanged = true
    if (gone !== undefined) apply(this.#sums, table, gone, -1)
    if (come !== undefined) apply(this.#sums, table, come, 1)
  }

  /** The record to write within the group, or undefined when no row moved. */
  sealed(): Uint8Array | undefined {
    if (!this.#isChanged) return undefined
    const record = [...this.#sums].map(([table, { count, sum }]) => [table, count, toBase64(sum)])
    return seal(this.#key, utf8Bytes(JSON.stringify(record)), PLACE, this.#random)
  }

  /** The group is on disk. */
  settle(): void {
    this.#isChanged = false
    this.#before.clear()
  }

  /** The group is undone. */
  rollBack(): void {
    for (const [table, sum] of this.#before) {
      if (sum === undefined) this.#sums.delete(table)
      else this.#sums.set(table, sum)
    }
    this.settle()
  }

  /** Reads the record that the file has. False when there is none, or none of ours: then every table counts as changed. */
  read(database: Database): boolean {
    const rows = database.prepare('SELECT sealed FROM sums').all() as SqlRow[]
    const sealed = rows[0]?.['sealed']
    if (rows.length !== 1 || !(sealed instanceof Uint8Array)) return false
    try {
      const record = JSON.parse(utf8Text(open(this.#key, sealed, PLACE))) as [string, number, string][]
      this.#sums = new Map(record.map(([table, count, sum]) => [table, { count, sum: fromBase64(sum) }]))
      return true
    } catch (error) {
      if (!(error instanceof AgentMeshError)) throw error
      return false
    }
  }

  /** Tables whose rows are not those that were written last. */
  changed(database: Database): string[] {
    const found = this.#ofRows(database)
    const names = new Set([...found.keys(), ...this.#sums.keys()])
    return [...names].filter((name) => !isSame(found.get(name), this.#sums.get(name))).toSorted()
  }

  /** Takes the rows that are there for those that should be. Within a transaction. */
  accept(database: Database): void {
    const found = this.#ofRows(database)
    for (const name of new Set([...found.keys(), ...this.#sums.keys()])) {
      if (!this.#before.has(name)) this.#before.set(name, copy(this.#sums.get(name)))
    }
    this.#sums = found
    this.#isChanged = true
  }

  #ofRows(database: Database): Map<string, Sum> {
    const sums = new Map<string, Sum>()
    for (const row of database.prepare(`SELECT tbl, ${NONCE_COLUMN} FROM entries`).all() as SqlRow[]) {
      const nonce = row['nonce']
      const part = this.partOf(nonce instanceof Uint8Array ? nonce : new Uint8Array(0))
      apply(sums, String(row['tbl']), part, 1)
    }
    return sums
  }
}

function apply(sums: Map<string, Sum>, table: string, part: Uint8Array, step: 1 | -1): void {
  let entry = sums.get(table)
  if (entry === undefined) {
    entry = { count: 0, sum: new Uint8Array(SUM_BYTES) }
    sums.set(table, entry)
  }
  for (const [index, byte] of part.entries()) entry.sum[index] = (entry.sum[index] ?? 0) ^ byte
  entry.count += step
}

function copy(sum: Sum | undefined): Sum | undefined {
  return sum && { count: sum.count, sum: Uint8Array.from(sum.sum) }
}

function isSame(left: Sum | undefined, right: Sum | undefined): boolean {
  const none = { count: 0, sum: new Uint8Array(SUM_BYTES) }
  const [one, other] = [left ?? none, right ?? none]
  return one.count === other.count && toBase64(one.sum) === toBase64(other.sum)
}
