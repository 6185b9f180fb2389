/**
 * A look at a registry's transparency log that believes the registry nothing (RFC 9162 §8.2; `spec/transparency.md`).
 *
 *     trust document -> signed head -> no older than it was -> begins with what was seen -> new entries -> their root is the head's
 *
 * Whoever kept the state of an earlier look finds every entry that was changed, dropped or put in between since, without
 * reading the old ones again. The two signed heads in a finding prove it to anybody else.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  checkConsistency,
  compareTrees,
  GrowingTree,
  openTrustDocument,
  parseLogEntry,
  verifyTreeHead,
  type LogEntry,
  type LogState,
  type TreeState,
  type TrustedRegistry,
} from '../identity/index.ts'
import { equalBytes } from '../crypto/signing.ts'
import {
  AgentMeshError,
  CLOCK_SKEW_SECONDS,
  fromBase64,
  isAgentMeshError,
  LogEntries,
  MAX_LOG_PAGE_ENTRIES,
  parseJsonObject,
  parseTimestamp,
  TreeHead,
  validate,
  type ErrorCode,
  type JsonObject,
} from '../wire/index.ts'
import { boundedFetch } from './bounded-fetch.ts'
import { refusal, trusted } from './registry-http.ts'

const MAX_ANSWER_BYTES = 64 * 1024
/** A page of the largest entries. */
const MAX_PAGE_BYTES = 2 * 1024 * 1024
const TIMEOUT_MILLISECONDS = 30_000
/** A registry signs its head again every few minutes; one that shows an older head hides what came after. */
const HEAD_MAX_AGE_SECONDS = 3_600
const MAX_TRIES = 10

export interface LogAuditOptions {
  /** http or https; only its origin counts. */
  readonly url: string
  /** What an earlier audit gave. Its registry is the one that must answer. */
  readonly state?: LogState | undefined
  /** The registry's, as its owner gave it by another way; needless with a state. */
  readonly fingerprint?: string | undefined
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Told of every entry since the state, in order, before the verdict on them. `entry` is undefined for one of no known form. */
  readonly onEntry: (index: number, entry: LogEntry | undefined) => void
  readonly signal?: AbortSignal
  readonly fetch?: typeof fetch
  /** Milliseconds; for a registry that says it is asked too often. */
  readonly wait?: (milliseconds: number) => Promise<void>
}

/** What the registry did, by code. */
export const LOG_FINDINGS = {
  LOG_INCONSISTENT: 'The registry rewrote its log',
  LOG_SPLIT: 'The registry shows two logs',
  INVALID_SIGNATURE: 'The tree head is not signed by the registry',
  LOG_FOREIGN: 'Another registry answers',
  TREE_HEAD_STALE: 'The registry shows an old tree head, or one from the future',
} as const satisfies Partial<Record<ErrorCode, string>>
export type LogFindingCode = keyof typeof LOG_FINDINGS

export interface LogFinding {
  readonly code: LogFindingCode
  readonly detail: string
  /** The head of the earlier audit. */
  readonly seen: TreeHead | undefined
  /** The head as the registry gave it, when it did. */
  readonly shown: JsonObject | undefined
}

export interface LogAudit {
  /** Undefined: all is as it should be, and `state` is what to keep. */
  readonly finding: LogFinding | undefined
  readonly registry: { readonly name: string; readonly url: string; readonly fingerprint: string } | undefined
  readonly state: LogState | undefined
  /** Entries read. */
  readonly entries: number
}

/**
 * @throws REGISTRY_UNREACHABLE, REGISTRY_ANSWER_INVALID (also for a trust document that does not hold, and for what the
 *   head commits to and is not given), TIER_UNAVAILABLE (the registry has no log), MALFORMED for the URL
 */
export async function auditLog(options: LogAuditOptions): Promise<LogAudit> {
  const audit = new Audit(options)
  try {
    const state = await audit.run()
    return { finding: undefined, registry: audit.registry, state, entries: audit.entries }
  } catch (error) {
    if (!isAgentMeshError(error) || !isFinding(error.code)) throw error
    const finding = {
      code: error.code,
      detail: error.message,
      seen: options.state?.tree_head,
      shown: audit.shown,
    }
    return { finding, registry: audit.registry, state: undefined, entries: audit.entries }
  }
}

class Audit {
  readonly #options: LogAuditOptions
  readonly #origin: string
  registry: TrustedRegistry | undefined
  shown: JsonObject | undefined
  entries = 0

  constructor(options: LogAuditOptions) {
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined
    if (url === undefined || !/^https?:$/.test(url.protocol)) {
      throw new AgentMeshError('MALFORMED', 'The registry is not an http or https URL')
    }
    this.#options = options
    this.#origin = url.origin
  }

  async run(): Promise<LogState> {
    const { state, now } = this.#options
    const registry = await this.#trust()
    this.registry = registry
    const raw = await this.#get('log/head')
    this.shown = raw
    const shown = readAnswer('log/head', () => verifyTreeHead(raw, registry))
    checkAge(shown, now())
    if (state !== undefined) await this.#compare(treeOf(state.tree_head), shown)
    const tree = new GrowingTree(state)
    await this.#read(tree, shown.size)
    if (!equalBytes(tree.root, shown.rootHash)) {
      throw new AgentMeshError('LOG_INCONSISTENT', 'The entries given are not those under the tree head')
    }
    return tree.state(validate(TreeHead, raw))
  }

  async #trust(): Promise<TrustedRegistry> {
    const { state, fingerprint, now } = this.#options
    const raw = await this.#get('trust')
    const registry = trusted('read the trust document', () => openTrustDocument(raw, { now: now() }))
    for (const known of [state?.tree_head.registry, fingerprint]) {
      if (known !== undefined && known !== registry.fingerprint) {
        throw new AgentMeshError('LOG_FOREIGN', `The registry that answers is ${registry.fingerprint}`)
      }
    }
    return registry
  }

  /** @throws LOG_SPLIT, LOG_INCONSISTENT */
  async #compare(seen: TreeState, shown: TreeState): Promise<void> {
    const compared = compareTrees(seen, shown)
    if (compared.relation === 'same') return
    if (compared.relation === 'split') {
      throw new AgentMeshError('LOG_SPLIT', `Two trees of ${seen.size} entries have different roots`)
    }
    const { older, newer } = compared
    if (newer === seen) {
      throw new AgentMeshError(
        'LOG_INCONSISTENT',
        `The log had ${seen.size} entries and is shown with ${shown.size}`,
      )
    }
    const path = `log/consistency?from=${older.size}&to=${newer.size}`
    const proof = await this.#committed(path, MAX_ANSWER_BYTES)
    readAnswer(path, () => checkConsistency(proof, older, newer))
  }

  /** Reads on to the size of the head, page by page. */
  async #read(tree: GrowingTree, size: number): Promise<void> {
    while (tree.size < size) {
      const limit = Math.min(MAX_LOG_PAGE_ENTRIES, size - tree.size)
      const path = `log/entries?start=${tree.size}&limit=${limit}`
      const raw = await this.#committed(path, MAX_PAGE_BYTES)
      const page = trusted(path, () => {
        const { start, entries } = validate(LogEntries, raw)
        if (start !== tree.size || entries.length === 0 || entries.length > limit) {
          throw new Error('Not the entries that were asked for')
        }
        return entries.map(fromBase64)
      })
      for (const bytes of page) {
        this.#options.onEntry(tree.size, readEntry(bytes))
        tree.append(bytes)
        this.entries++
      }
    }
  }

  /** What a head commits its registry to. To say it is not there is no answer. */
  async #committed(path: string, maxBytes: number): Promise<JsonObject> {
    try {
      return await this.#get(path, maxBytes)
    } catch (cause) {
      if (!isAgentMeshError(cause, 'NOT_FOUND')) throw cause
      throw new AgentMeshError(
        'REGISTRY_ANSWER_INVALID',
        'The registry keeps back what its tree head covers',
        {
          operation: `GET ${path}`,
          cause,
        },
      )
    }
  }

  async #get(path: string, maxAnswerBytes = MAX_ANSWER_BYTES): Promise<JsonObject> {
    const { signal, wait = sleep } = this.#options
    for (let tries = 1; ; tries++) {
      signal?.throwIfAborted()
      const cancel = new AbortController()
      const abort = (): void => cancel.abort(signal?.reason)
      signal?.addEventListener('abort', abort, { once: true })
      try {
        const request = {
          url: `${this.#origin}/v1/registry/${path}`,
          method: 'GET',
          headers: { accept: 'application/json' },
          maxAnswerBytes,
          timeoutMilliseconds: TIMEOUT_MILLISECONDS,
        }
        const answer = await boundedFetch(request, cancel, this.#options.fetch ?? fetch)
        if (answer.status < 200 || answer.status > 299) throw refusal({ method: 'GET', path }, answer)
        return trusted(`GET ${path}`, () => parseJsonObject(answer.body, maxAnswerBytes))
      } catch (error) {
        if (!isAgentMeshError(error, 'RATE_LIMITED') || tries === MAX_TRIES) throw error
        await wait((error.retryAfterSeconds ?? 1) * 1000)
      } finally {
        signal?.removeEventListener('abort', abort)
      }
    }
  }
}

function isFinding(code: ErrorCode): code is LogFindingCode {
  return Object.hasOwn(LOG_FINDINGS, code)
}

/** Findings pass as they are; whatever else is wrong with an answer makes it none. */
function readAnswer<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (isAgentMeshError(error) && isFinding(error.code)) throw error
    return trusted(`GET ${path}`, () => {
      throw error
    })
  }
}

function readEntry(bytes: Uint8Array): LogEntry | undefined {
  try {
    return parseLogEntry(bytes)
  } catch {
    return undefined
  }
}

function treeOf(head: TreeHead): TreeState {
  return {
    size: head.size,
    rootHash: fromBase64(head.root_hash),
    timestamp: parseTimestamp(head.timestamp),
  }
}

function checkAge({ timestamp }: TreeState, now: number): void {
  if (timestamp > now + CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('TREE_HEAD_STALE', 'The tree head is dated in the future')
  }
  if (timestamp < now - HEAD_MAX_AGE_SECONDS * 1000) {
    throw new AgentMeshError('TREE_HEAD_STALE', `The tree head is of ${new Date(timestamp).toISOString()}`)
  }
}
