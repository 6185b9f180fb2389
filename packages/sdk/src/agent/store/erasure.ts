/**
 * Makes deleted and replaced rows unreadable in the files themselves (DESIGN §7.2 "Erasure").
 *
 * SQLite overwrites what it frees (`secure_delete`), in pages that go to the write-ahead log first. That leaves two
 * places: the log keeps all earlier versions of a page, and a page whose rows were moved to its neighbour keeps their
 * bytes in its unused middle, which SQLite does not clear. Steps, each of them flushed before the next:
 *
 *     1  checkpoint                   everything committed is in the main file
 *     2  zeros into the unused middle of each page that the log holds
 *     3  zeros over the log's header  from here on the log counts as empty: no half-erased one is ever replayed
 *     4  zeros over the rest of the log
 *     5  truncated by SQLite, which starts the log anew
 *
 * A process that dies between any two of them leaves a file that holds all that was committed; the next start begins at
 * 1. The caller holds the file exclusively and no transaction is open. What lies below the file is not reached: copies
 * that an SSD, a file system that never overwrites, or a backup keeps.
 *
 * Formats: https://sqlite.org/fileformat2.html, b-tree pages (1.6) and the write-ahead log (4.1).
 */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs'
import type { Database, SqlRow, Statement } from './sqlite.ts'

const WAL_HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
/** The first page begins with the header of the file. */
const FILE_HEADER_BYTES = 100
const ZEROS = new Uint8Array(1 << 20)
const O_NOFOLLOW = process.platform === 'win32' ? 0 : constants.O_NOFOLLOW

/** By the first byte of a b-tree page: how long its header is. Other pages have no unused middle. */
const PAGE_HEADERS: Readonly<Record<number, number>> = { 2: 12, 5: 12, 10: 8, 13: 8 }

export class Erasure {
  readonly #writeBack: Statement
  readonly #truncate: Statement
  readonly #pageSize: number
  /** Held as long as the connection: closing any handle on a file gives up the locks that this process has on it. */
  readonly #main: number
  readonly #log: number

  /** @param path of a database in WAL mode that `database` holds exclusively */
  constructor(path: string, database: Database) {
    this.#writeBack = database.prepare('PRAGMA wal_checkpoint(RESTART)')
    this.#truncate = database.prepare('PRAGMA wal_checkpoint(TRUNCATE)')
    this.#pageSize = Number((database.prepare('PRAGMA page_size').get() as SqlRow)['page_size'])
    this.#log = openSync(`${path}-wal`, constants.O_RDWR | O_NOFOLLOW)
    this.#main = openSync(path, constants.O_RDWR | O_NOFOLLOW)
  }

  /** How long the log is. */
  logBytes(): number {
    return fstatSync(this.#log).size
  }

  /** @param everyPage also what no page of the log tells of @throws what SQLite and the file system throw */
  run(everyPage = false): void {
    checkpoint(this.#writeBack)
    const size = this.logBytes()
    this.#clearPages(everyPage ? this.#allPages() : this.#pagesInLog(size))
    overwrite(this.#log, 0, Math.min(WAL_HEADER_BYTES, size))
    overwrite(this.#log, WAL_HEADER_BYTES, size)
    checkpoint(this.#truncate)
  }

  /** Before the connection is closed, which deletes the log. */
  closeLog(): void {
    closeSync(this.#log)
  }

  /** After the connection was closed. */
  close(): void {
    closeSync(this.#main)
  }

  #allPages(): Set<number> {
    const count = Math.floor(fstatSync(this.#main).size / this.#pageSize)
    return new Set(Array.from({ length: count }, (_, index) => index + 1))
  }

  /** Numbers of the pages that the log has versions of, those of earlier rounds included. */
  #pagesInLog(size: number): Set<number> {
    const pages = new Set<number>()
    const header = new Uint8Array(4)
    const number = new DataView(header.buffer)
    const step = FRAME_HEADER_BYTES + this.#pageSize
    for (let at = WAL_HEADER_BYTES; at + step <= size; at += step) {
      readSync(this.#log, header, 0, 4, at)
      pages.add(number.getUint32(0))
    }
    return pages
  }

  #clearPages(pages: ReadonlySet<number>): void {
    const page = new Uint8Array(this.#pageSize)
    let isCleared = false
    for (const number of pages) {
      const at = (number - 1) * this.#pageSize
      if (number === 0 || readSync(this.#main, page, 0, page.length, at) < page.length) continue
      const { start, end } = unusedMiddle(page, number === 1 ? FILE_HEADER_BYTES : 0)
      if (Buffer.compare(page.subarray(start, end), ZEROS.subarray(0, end - start)) === 0) continue
      // Only these bytes: whatever a torn write leaves, the rest of the page is as it was.
      writeAll(this.#main, new Uint8Array(end - start), at + start)
      isCleared = true
    }
    if (isCleared) fsyncSync(this.#main)
  }
}

/** Between the array of cell pointers, which grows up, and the cells, which grow down; empty for pages without. */
function unusedMiddle(page: Uint8Array, begin: number): { start: number; end: number } {
  const header = PAGE_HEADERS[page[begin] ?? 0]
  if (header === undefined) return { start: 0, end: 0 }
  const view = new DataView(page.buffer, page.byteOffset + begin)
  const start = begin + header + 2 * view.getUint16(3)
  // 0 stands for 65,536.
  const end = view.getUint16(5) || 65_536
  // Overflow and free pages begin with a page number, whose first byte is 0 up to 64 GiB.
  return start <= end && end <= page.length ? { start, end } : { start: 0, end: 0 }
}

function overwrite(handle: number, from: number, to: number): void {
  if (to <= from) return
  for (let at = from; at < to; at += ZEROS.length) {
    writeAll(handle, ZEROS.subarray(0, Math.min(ZEROS.length, to - at)), at)
  }
  fsyncSync(handle)
}

function writeAll(handle: number, bytes: Uint8Array, at: number): void {
  for (let written = 0; written < bytes.length;) {
    written += writeSync(handle, bytes, written, bytes.length - written, at + written)
  }
}

function checkpoint(statement: Statement): void {
  const result = statement.get() as SqlRow
  if (result['busy'] !== 0) throw new Error('the log of state.db is in use')
}
