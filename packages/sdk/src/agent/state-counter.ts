/**
 * By what an agent notices that its state is an older copy of itself, before anything is sealed or opened with keys it used
 * already (DESIGN §7.2, spec/relay.md 2).
 *
 *     meta `counter`   { counter, shown }   moves in the transaction of every commit group
 *     state.mark       the counter of the last group, in decimal: written after its commit, never before
 *     relay, registry  `shown` of the last commit: the highest number this state may have told anybody
 *
 * A crash or a power cut leaves the file behind the row; a row behind the file, or behind what a relay or a registry was told,
 * was put back. A copy that runs on without a relay counts as well, and might come out above what the relay knows; `shown`
 * does not move then, and is what is compared.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import type { Home } from '../identity/index.ts'
import type { StateClaim } from '../transport/index.ts'
import { AgentMeshError, isAgentMeshError, utf8Bytes, utf8Text } from '../wire/index.ts'
import type { CommitHook, Table } from './store/index.ts'

const FILE = 'state.mark'
const ROW = 'counter'
/** What versions that did not count kept in the file, and of it here. */
const OLD_ROW = 'mark'
/** Digits of 2^53 - 1: the file never changes its length. */
const DIGITS = 16
const PATTERN = /^\d{16}\n$/

interface Row {
  readonly counter: number
  readonly shown: number
}

/** No agent counts so far: a relay that says more would only have us run out of numbers. */
const MAX_CREDIBLE = 2 ** 52

const NONE: Row = { counter: 0, shown: 0 }

/**
 * How a state was found: `older` than one in use before; `lost` when there was one and this is new; `outdated` when a version
 * of this program that did not count wrote it last.
 */
export type StateFound = 'same' | 'older' | 'lost' | 'outdated'

interface MetaTables {
  readonly meta: Table<unknown>
}

export class StateCounter implements CommitHook<MetaTables>, StateClaim {
  readonly #home: Home
  /** As the last commit left them, and as the group that is being committed will. */
  #row: Row = NONE
  #next: Row = NONE
  /** A later state counted up to here. Nothing counts before this one was given up: else a crash would make it look new. */
  #beyond = 0
  /** A relay confirmed this state and is told what comes. */
  #isShowing = false
  /** What the registry was told in this run is at most this. */
  #registryBase = 0
  #file: number | undefined
  /** Told once when the file cannot be written. */
  onFailure: (error: AgentMeshError) => void = () => {}
  /** A relay or registry has seen a later state. */
  onBehind: () => void = () => {}
  /** A relay has seen none later. */
  onConfirmed: () => void = () => {}

  constructor(home: Home) {
    this.#home = home
  }

  /**
   * Compares what was opened with the file. To be called before anything is committed; then `follow`, when what follows from
   * it is on disk.
   *
   * @throws HOME_UNSAFE, HOME_FAILED
   */
  compare(meta: Table<unknown>): StateFound {
    const file = readMark(this.#home)
    const row = readRow(meta)
    const found = compare(row, file, meta.count() > 0)
    this.#row = row ?? NONE
    this.#registryBase = this.#row.shown
    if (found !== 'same')
      this.#beyond = Math.max(1, this.#row.counter + 1, typeof file === 'number' ? file : 0)
    return found
  }

  /** From now on the file goes along with the commits. @throws HOME_UNSAFE, HOME_FAILED */
  follow(): void {
    this.#home.writeFile(FILE, markOf(this.#row.counter))
    this.#file = openSync(this.#home.file(FILE), constants.O_WRONLY | constants.O_NOFOLLOW)
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }

  // --- commits (CommitHook) ---------------------------------------------------------------------------------------

  write({ meta }: MetaTables): void {
    const row = readRow(meta) ?? NONE
    this.#next = row
    if (row.counter < this.#beyond) return
    const counter = row.counter + 1
    this.#next = { counter, shown: this.#isShowing ? counter : row.shown }
    meta.put(ROW, this.#next)
  }

  written(): void {
    this.#row = this.#next
    if (this.#beyond > 0 && this.#row.shown >= this.#beyond) {
      this.#beyond = 0
      this.#registryBase = this.#row.shown
    }
    if (this.#file === undefined || this.#beyond > 0) return
    try {
      writeSync(this.#file, markOf(this.#row.counter), 0, DIGITS + 1, 0)
    } catch (cause) {
      this.close()
      this.onFailure(
        new AgentMeshError('HOME_FAILED', `${FILE} cannot be written: an older state.db would go unnoticed`, {
          cause,
        }),
      )
    }
  }

  // --- relays (StateClaim) and registry ---------------------------------------------------------------------------

  get counter(): number {
    return this.#row.shown
  }

  admits(seen: number): boolean {
    const isLater = seen > this.#row.shown && seen <= MAX_CREDIBLE
    if (isLater || this.#beyond > 0) return this.#fallBehind(isLater ? seen : 0)
    this.#isShowing = true
    this.onConfirmed()
    return true
  }

  #fallBehind(seen: number): false {
    this.#isShowing = false
    this.#beyond = Math.max(this.#beyond, seen)
    this.onBehind()
    return false
  }

  /** No relay is told what comes. */
  disconnected(): void {
    this.#isShowing = false
  }

  /** The number that goes to the registry with an upload. */
  forRegistry(): number {
    this.#registryBase = Math.max(this.#registryBase, this.#row.shown)
    return this.#row.shown
  }

  /** The registry said what it was told last. @returns whether this state may go on */
  admitsRegistry(seen: number): boolean {
    return seen <= this.#registryBase || this.#fallBehind(seen)
  }

  /** This state takes the place of the later one and counts on from above it. Call within the commit that gives up what is old. */
  goBeyond({ meta }: MetaTables): void {
    const counter = Math.max(readRow(meta)?.counter ?? 0, this.#beyond)
    meta.put(ROW, { counter, shown: counter })
    meta.delete(OLD_ROW)
  }
}

function compare(row: Row | undefined, file: number | 'none' | 'foreign', hasRows: boolean): StateFound {
  if (row === undefined) {
    if (hasRows) return typeof file === 'number' ? 'older' : 'outdated'
    return file === 'none' ? 'same' : 'lost'
  }
  // A first start that ended before it wrote the file.
  if (file === 'none' && row.shown === 0) return 'same'
  return typeof file === 'number' && file <= row.counter ? 'same' : 'older'
}

function markOf(counter: number): Uint8Array {
  return utf8Bytes(`${String(counter).padStart(DIGITS, '0')}\n`)
}

function readMark(home: Home): number | 'none' | 'foreign' {
  const bytes = home.readFile(FILE)
  if (bytes === undefined) return 'none'
  try {
    const text = utf8Text(bytes)
    const counter = PATTERN.test(text) ? Number(text) : Number.NaN
    return Number.isSafeInteger(counter) ? counter : 'foreign'
  } catch (error) {
    if (!isAgentMeshError(error, 'MALFORMED')) throw error
    return 'foreign'
  }
}

/** A row that does not open is dropped with the other damaged ones, and is none. */
function readRow(meta: Table<unknown>): Row | undefined {
  try {
    return meta.get(ROW) as Row | undefined
  } catch (error) {
    if (!isAgentMeshError(error, 'STATE_DAMAGED')) throw error
    return undefined
  }
}
