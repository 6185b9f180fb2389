/**
 * The owner's check: the chain and its head (`audit-verify.ts`), held against what the agent remembers of the log, and
 * every gap with the owner's word on it.
 *
 *     ok = the end was checked, and each gap is acknowledged
 */
import { readdirSync } from 'node:fs'
import { gapId, type AuditEnd, type AuditGap } from './audit-end.ts'
import { verifyAuditLog, type AuditReport, type VerifyOptions } from './audit-verify.ts'

/** A gap that the agent found, or that its owner acknowledged. */
export interface KnownGap extends AuditGap {
  readonly found_at: string
  readonly acknowledged_at?: string
}

/** What an agent's state holds about its log. */
export interface AuditRecord {
  readonly end?: AuditEnd
  /** Why the state cannot tell where the log ended. */
  readonly doubt?: string
  readonly gaps: readonly KnownGap[]
}

export interface AuditCheck extends AuditReport {
  /** false: the state could not be read, so that a log cut short or swapped would go unnoticed. */
  readonly endChecked: boolean
  readonly gaps: readonly (AuditGap & { readonly acknowledged_at?: string })[]
}

/**
 * @param record of the agent's state; without it the end is not checked and nothing counts as acknowledged
 * @throws AUDIT_DAMAGED only when files cannot be read at all
 */
export async function checkAuditLog(
  dir: string,
  publicKey: Uint8Array,
  record: AuditRecord | undefined,
  options: Omit<VerifyOptions, 'end'> = {},
): Promise<AuditCheck> {
  const { end, doubt, gaps: known = [] } = record ?? {}
  const report = await verifyAuditLog(dir, publicKey, { ...options, ...(end === undefined ? {} : { end }) })
  const gaps = new Map<string, AuditCheck['gaps'][number]>()
  for (const gap of [...report.told, ...report.problems]) gaps.set(gap.id, gap)
  if (doubt !== undefined) {
    const gap = unknownEnd(doubt, report.head?.hash)
    gaps.set(gap.id, gap)
  }
  for (const gap of known) gaps.set(gap.id, gap)
  const explained = new Set([...gaps.values()].map((gap) => gap.set_aside))
  for (const folder of setAsideFolders(dir)) {
    if (explained.has(folder)) continue
    const id = gapId('set-aside', folder)
    gaps.set(id, {
      kind: 'set-aside',
      set_aside: folder,
      detail: `A log that was set aside: ${folder}`,
      ...gaps.get(id),
      id,
    })
  }
  const endChecked = record !== undefined
  const open = [...gaps.values()].filter((gap) => gap.acknowledged_at === undefined)
  return { ...report, ok: endChecked && open.length === 0, endChecked, gaps: [...gaps.values()] }
}

export function unknownEnd(doubt: string, headHash = ''): AuditGap {
  return { id: gapId('end-unknown', doubt, headHash), kind: 'end-unknown', detail: doubt }
}

function setAsideFolders(dir: string): string[] {
  try {
    return readdirSync(dir).filter((name) => name.startsWith('damaged-'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
