/**
 * From evidence to published scores, in the background (`spec/reputation.md`).
 *
 *     feedback -> due_at -> claimed by one instance -> assessed -> decided -> score, agents.reputation and log entry
 *
 * Feedback only notes that its two agents are due; however much comes, an agent is evaluated at most once in
 * EVALUATION_DELAY_MS. All decisions of one batch that change what is published are one log entry, written in the
 * transaction that publishes them.
 */
import type { Transaction } from 'kysely'
import {
  canonicalBytes,
  formatTimestamp,
  type Amid,
  type ReputationTerms,
  type TierNumber,
} from '@agentmesh/sdk/wire'
import type { ScoreChange, StoredScore } from '../store/reputation-store.ts'
import type { Store } from '../store/store.ts'
import type { Tables } from '../store/tables.ts'
import { FORGET_EVIDENCE_MS, REEVALUATION_MS } from './constants.ts'
import { assess } from './evidence.ts'
import { voiceOf, type People } from './people.ts'
import { decide, release, type Cause, type Decision } from './review.ts'
import { roundScore, scoreOf } from './score.ts'

/** Scores evaluated and logged together. */
const BATCH = 20
/** For how long an instance that took a batch may need. */
const LEASE_MS = 5 * 60_000

export interface EvaluationDependencies {
  readonly store: Store
  readonly people: People
}

export interface Evaluated {
  readonly before: StoredScore
  readonly score: number
  readonly tier: TierNumber
  readonly terms: ReputationTerms
  readonly pooledShare: number
  readonly hasEvidence: boolean
}

/** What stands in the log of one change. */
interface LoggedChange {
  readonly amid: Amid
  readonly from: number
  readonly to: number
  readonly cause: Cause
}

/** Evaluates what is due, in batches of bounded work. @returns how many scores were evaluated */
export async function evaluateDue(
  deps: EvaluationDependencies,
  now: number,
  maxBatches: number,
): Promise<number> {
  let evaluated = 0
  for (let batch = 0; batch < maxBatches; batch++) {
    const due = await deps.store.reputation.due(now, BATCH)
    if (due.length === 0) break
    evaluated += await evaluateBatch(deps, due, now)
  }
  return evaluated
}

async function evaluateBatch(
  deps: EvaluationDependencies,
  due: readonly { readonly amid: Amid; readonly dueAt: number }[],
  now: number,
): Promise<number> {
  const { store } = deps
  const lease = now + LEASE_MS
  const claimed = await store.transaction('claim scores', (tx) => store.reputation.claim(tx, due, lease))
  const changes: (ScoreChange & { readonly cause: Cause })[] = []
  for (const amid of claimed) {
    const evaluated = await evaluate(deps, amid, now)
    if (evaluated === undefined) continue
    const { state, cause } = decide(evaluated.before, evaluated, now)
    const dueAt = nextEvaluation(evaluated, state.hold?.until, now)
    // The terms published are those of the score published.
    const terms = state.hold === undefined ? evaluated.terms : evaluated.before.terms
    changes.push({ before: evaluated.before, after: state, terms, dueAt, cause })
  }
  if (changes.length === 0) return claimed.length
  await store.transaction('publish scores', async (tx) => {
    const logged: LoggedChange[] = []
    for (const change of changes) {
      const written = await store.reputation.write(tx, change, lease, now)
      if (written && change.after.published !== change.before.published) logged.push(loggedChange(change))
    }
    await logChanges(deps, tx, logged, now)
  })
  return claimed.length
}

/** Undefined for an agent that is not registered: it is evaluated when it comes back. */
export async function evaluate(
  { store, people }: EvaluationDependencies,
  amid: Amid,
  now: number,
): Promise<Evaluated | undefined> {
  const before = await store.reputation.score(amid)
  const agent = await store.getAgent(amid)
  if (before === undefined || agent === undefined) return undefined
  const standing = await people.standingOf(amid)
  const voices = await store.reputation.voices(amid, voiceOf(amid, standing), now - FORGET_EVIDENCE_MS)
  const subject = { tier: standing.tier, registeredAt: agent.registeredAt }
  const { terms, feedback, completion } = assess(subject, voices, now)
  const weight = feedback.weight + completion.weight
  return {
    before,
    score: scoreOf(terms),
    tier: standing.tier,
    terms,
    pooledShare: weight === 0 ? 0 : (feedback.pooled + completion.pooled) / weight,
    hasEvidence: weight > 0,
  }
}

/** Publishes what an operator approved, with what else is to happen in that transaction. False when there was nothing held. */
export async function approveHeld(
  deps: EvaluationDependencies,
  amid: Amid,
  now: number,
  also: (tx: Transaction<Tables>) => Promise<void>,
): Promise<boolean> {
  const evaluated = await evaluate(deps, amid, now)
  if (evaluated?.before.hold === undefined) return false
  const { state, cause }: Decision = release(evaluated.score, evaluated.tier, now, 'approved')
  const change = {
    before: evaluated.before,
    after: state,
    terms: evaluated.terms,
    dueAt: nextEvaluation(evaluated, undefined, now),
  }
  return deps.store.transaction('approve a score', async (tx) => {
    if (!(await deps.store.reputation.write(tx, change, undefined, now))) return false
    await logChanges(deps, tx, [loggedChange({ ...change, cause })], now)
    await also(tx)
    return true
  })
}

/** Strikes out the evidence of a held change; the score is evaluated again without it. False when there was nothing held. */
export async function rejectHeld(
  deps: EvaluationDependencies,
  amid: Amid,
  now: number,
  also: (tx: Transaction<Tables>, sessions: number) => Promise<void>,
): Promise<boolean> {
  const before = await deps.store.reputation.score(amid)
  if (before?.hold === undefined) return false
  const after = { ...before, hold: undefined }
  return deps.store.transaction('reject a score', async (tx) => {
    const change = { before, after, terms: before.terms, dueAt: now }
    if (!(await deps.store.reputation.write(tx, change, undefined, now))) return false
    const sessions = await deps.store.reputation.strike(tx, amid, before.anchorAt)
    await logChanges(deps, tx, [loggedChange({ ...change, cause: 'rejected' })], now)
    await also(tx, sessions)
    return true
  })
}

function loggedChange(change: ScoreChange & { readonly cause: Cause }): LoggedChange {
  const { before, after, cause } = change
  return { amid: before.amid, from: roundScore(before.published), to: after.published, cause }
}

async function logChanges(
  { store }: EvaluationDependencies,
  tx: Transaction<Tables>,
  changes: readonly LoggedChange[],
  now: number,
): Promise<void> {
  if (changes.length === 0) return
  const content = canonicalBytes({ type: 'reputation_changes', at: formatTimestamp(now), changes })
  await store.transparency.append(tx, { kind: 'reputation', timestamp: now, content })
}

function nextEvaluation(evaluated: Evaluated, heldUntil: number | undefined, now: number): number | null {
  if (heldUntil !== undefined) return Math.min(heldUntil, now + REEVALUATION_MS)
  return evaluated.hasEvidence ? now + REEVALUATION_MS : null
}
