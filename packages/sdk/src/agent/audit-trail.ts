/**
 * The audit log of an agent, and what its sealed state remembers of it, so that no restart washes the log (DESIGN §9).
 *
 *     start    what the state remembers is held against the files; then { clean: false } is committed, before a first line
 *     running  each commit group takes along the end that was signed last
 *     stop     the log closes with its last line signed; then its end is committed, { clean: true }
 *
 * A log that does not fit is set aside and never continued. What is wrong further back does not stop the agent: the whole
 * chain is read beside its work. Either is a gap, which stays until the owner acknowledges it.
 */
import { join } from 'node:path'
import type { Home, HomeIdentity } from '../identity/index.ts'
import {
  AuditLog,
  checkAuditLog,
  findEnd,
  gapId,
  hasAuditLog,
  setAsideAuditLog,
  unknownEnd,
  type AuditCheck,
  type AuditEnd,
  type AuditFields,
  type AuditGap,
  type AuditLogOptions,
  type AuditRecord,
  type KnownGap,
} from '../observability/index.ts'
import { AgentMeshError, formatTimestamp, isAgentMeshError } from '../wire/index.ts'
import type { StateFound } from './state-counter.ts'
import type { CommitHook, Table } from './store/index.ts'

export const AUDIT_FOLDER = 'logs'
const END_ROW = 'audit_end'
const GAPS_ROW = 'audit_gaps'
const MAX_GAPS = 1000

type Actor = AuditFields['breaker']['by']

interface MetaTables {
  readonly meta: Table<unknown>
}

/** What it needs of the agent's store. */
interface TrailStore {
  commit<T>(work: (tables: MetaTables) => T): Promise<T>
}

/** How the state that remembers the log was found. */
export interface StateStanding {
  readonly found: StateFound
  /** The state was in use before. */
  readonly wasUsed: boolean
}

/**
 * What the state holds about the log, and whether it may be believed. A used state without the row is one of a version that
 * kept none: a row that was deleted makes the state an older one.
 */
export function auditRecord(meta: Table<unknown>, standing: StateStanding, home: Home): AuditRecord {
  const end = meta.get(END_ROW) as AuditEnd | undefined
  const gaps = (meta.get(GAPS_ROW) as KnownGap[] | undefined) ?? []
  const { found, wasUsed } = standing
  if (found === 'older') {
    const doubt = 'An older copy of state.db was put back: it cannot tell where the log ended'
    return { ...(end === undefined ? {} : { end: { ...end, clean: false } }), doubt, gaps }
  }
  const isNew = !wasUsed && hasAuditLog(join(home.path, AUDIT_FOLDER))
  if (found === 'lost' || isNew)
    return { doubt: 'state.db, which remembers where the log ended, is gone', gaps }
  return { ...(end === undefined ? {} : { end }), gaps }
}

export class AuditTrail implements CommitHook<MetaTables> {
  readonly #dir: string
  readonly #options: AuditLogOptions
  #store: TrailStore | undefined
  #log: AuditLog | undefined
  /** As the last commit left it, and as the group that is being committed will. */
  #row: AuditEnd | undefined
  #next: AuditEnd | undefined
  #gaps: readonly KnownGap[] = []
  #isClosed = false
  #isStopping = false
  #checking: Promise<unknown> = Promise.resolve()
  /** Told of each gap that is found. */
  onGap: (gap: AuditGap) => void = () => {}

  constructor(home: Home, identity: HomeIdentity, options: Omit<AuditLogOptions, 'identity' | 'onLost'>) {
    this.#dir = home.folder(AUDIT_FOLDER)
    // When that fails, the next start finds what the log says.
    const onLost = (): void => void this.check().catch(() => {})
    this.#options = { ...options, identity, onLost }
  }

  get #opened(): TrailStore {
    if (this.#store === undefined) throw new AgentMeshError('STATE_CLOSED')
    return this.#store
  }

  get log(): AuditLog {
    if (this.#log === undefined) throw new AgentMeshError('AUDIT_WRITE_FAILED', 'The audit log is not open')
    return this.#log
  }

  /** Opens the log, or begins another where it cannot be gone on with. @throws AUDIT_WRITE_FAILED, STATE_WRITE_FAILED */
  async open(store: TrailStore, record: AuditRecord): Promise<void> {
    this.#store = store
    this.#gaps = record.gaps
    const { publicKey } = this.#options.identity.signing
    const found: AuditGap[] = []
    let restarted: AuditGap | undefined
    try {
      findEnd(this.#dir, publicKey, record.end)
    } catch (error) {
      if (!isAgentMeshError(error, 'AUDIT_DAMAGED')) throw error
      restarted = this.#setAside(error.message, record.end)
      found.push(restarted)
    }
    const end = findEnd(this.#dir, publicKey)
    if (record.doubt !== undefined) found.push(unknownEnd(record.doubt, end.head?.hash))
    // After what was set aside is out of the way: a crash before this leaves a log that is shorter than the row says.
    const kept = restarted === undefined ? record.end : undefined
    const row = { line: kept?.line ?? 0, hash: kept?.hash ?? '', clean: false }
    await this.#keep(found, row)
    this.#row = row
    this.#log = AuditLog.open(this.#dir, this.#options, end)
    if (restarted !== undefined) {
      const { id, detail, set_aside } = restarted
      this.#log.append({
        event: 'log_restarted',
        ts: this.#timestamp(),
        gap: id,
        problem: detail,
        ...(set_aside === undefined ? {} : { set_aside }),
      })
    }
    this.#report(found.filter((gap) => gap !== restarted))
    if (restarted !== undefined) this.onGap(restarted)
  }

  #setAside(problem: string, end: AuditEnd | undefined): AuditGap {
    const folder = hasAuditLog(this.#dir) ? setAsideAuditLog(this.#dir, this.#options.now()) : undefined
    const id = gapId('restarted', problem, end?.line ?? '', end?.hash ?? '', folder ?? '')
    const kept = folder === undefined ? {} : { set_aside: folder }
    return { id, kind: 'restarted', detail: problem, ...kept }
  }

  // --- commits (CommitHook) ---------------------------------------------------------------------------------------

  write({ meta }: MetaTables): void {
    this.#next = this.#row
    const head = this.#log?.head()
    if (head === undefined || (head.line === this.#row?.line && this.#row.clean === this.#isClosed)) return
    this.#next = { line: head.line, hash: head.hash, clean: this.#isClosed }
    meta.put(END_ROW, this.#next)
  }

  written(): void {
    if (this.#log !== undefined) this.#row = this.#next
  }

  // --- gaps -------------------------------------------------------------------------------------------------------

  /** How many gaps the owner has not acknowledged. */
  get unacknowledged(): number {
    return this.#gaps.filter(({ acknowledged_at }) => acknowledged_at === undefined).length
  }

  /** What the check of the log is to be held against at this moment. */
  record(): AuditRecord {
    const head = this.#log?.head()
    const end = head === undefined ? this.#row : { line: head.line, hash: head.hash, clean: false }
    return { ...(end === undefined ? {} : { end }), gaps: this.#gaps }
  }

  /** Reads the whole log, and keeps, audits and reports what it finds for the first time. Ends early when the log closes. */
  check(): Promise<void> {
    const checking = this.#checking
      .then(() => this.#checkWhole())
      .catch((error: unknown) => {
        if (!this.#isStopping) throw error
      })
    this.#checking = checking.catch(() => undefined)
    return checking
  }

  async #checkWhole(): Promise<void> {
    const { gaps } = await this.#look()
    if (this.#isStopping) return
    const fresh = gaps.filter(({ id }) => !this.#gaps.some((gap) => gap.id === id))
    if (fresh.length === 0) return
    await this.#keep(fresh)
    if (!this.#isStopping) this.#report(fresh)
  }

  #look(): Promise<AuditCheck> {
    const { publicKey } = this.#options.identity.signing
    return checkAuditLog(this.#dir, publicKey, this.record(), { stopped: () => this.#isStopping })
  }

  /** The owner knows of a gap: it is no error any more. @throws NOT_FOUND, STATE_WRITE_FAILED */
  async acknowledge(id: string, by: Actor): Promise<void> {
    const { gaps } = await this.#look()
    const gap = gaps.find((known) => known.id === id)
    if (gap === undefined) throw new AgentMeshError('NOT_FOUND', 'The audit log has no gap of this id')
    if (gap.acknowledged_at !== undefined) return
    await this.#keep([{ ...gap, acknowledged_at: this.#timestamp() }])
    this.log.append({ event: 'log_gap_acknowledged', ts: this.#timestamp(), gap: id, by })
  }

  #report(gaps: readonly AuditGap[]): void {
    for (const gap of gaps) {
      const { id, kind, detail } = gap
      // These stand in the log already.
      if (kind !== 'restarted' && kind !== 'lost-lines')
        this.log.append({ event: 'log_damaged', ts: this.#timestamp(), gap: id, kind, detail })
      this.onGap(gap)
    }
  }

  /** Commits gaps, in the place of those of the same id, and a row. */
  async #keep(gaps: readonly (AuditGap & Partial<KnownGap>)[], row?: AuditEnd): Promise<void> {
    const stamped = gaps.map((gap) => ({ found_at: this.#timestamp(), ...gap }))
    const next = await this.#opened.commit(({ meta }) => {
      const others = this.#gaps.filter(({ id }) => !stamped.some((gap) => gap.id === id))
      const all = [...others, ...stamped].slice(-MAX_GAPS)
      if (gaps.length > 0) meta.put(GAPS_ROW, all)
      if (row !== undefined) meta.put(END_ROW, row)
      return all
    })
    this.#gaps = next
  }

  #timestamp(): string {
    return formatTimestamp(this.#options.now())
  }

  /** Writes that the agent stopped, closes the log and commits that it ends here. @throws AUDIT_WRITE_FAILED */
  async close(reason: string): Promise<void> {
    this.#isStopping = true
    await this.#checking
    this.log.append({ event: 'agent_stopped', ts: this.#timestamp(), reason })
    await this.log.close()
    this.#isClosed = true
    try {
      await this.#opened.commit(() => {})
    } catch (error) {
      // The end stays as after a crash, and the next start finds it so.
      if (!isAgentMeshError(error)) throw error
    }
  }
}
