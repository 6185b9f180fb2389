/**
 * `agentmesh registry audit`: whether a registry's log still says what it said before, and what is new in it. Anybody can
 * run it; no agent and no home is needed.
 *
 * A finding leaves the state as it is: its tree head and the one shown are the proof.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  AgentMeshError,
  auditLog,
  escapeText,
  isAgentMeshError,
  LOG_FINDINGS,
  type JsonObject,
  type LogAudit,
  type LogFindingCode,
} from '@agentmesh/sdk'
import {
  kindOf,
  parseCertificate,
  parseLogState,
  type LogEntry,
  type LogState,
} from '@agentmesh/sdk/identity'
import { canonicalText, formatTimestamp, parseJsonObject } from '@agentmesh/sdk/wire'
import { EXIT, UsageError, type ExitCode } from '../exit-codes.ts'
import { color, jsonLine, note, print, type Context } from '../output.ts'
import { homePath } from './shared.ts'

const STATE_FOLDER = 'registry-audit'
const MAX_STATE_BYTES = 64 * 1024
const MAX_CONTENT_BYTES = 4_096

export interface RegistryAuditOptions {
  readonly state?: string
  readonly fingerprint?: string
  /** Seconds. */
  readonly watch?: number
}

const EXIT_OF: Readonly<Record<LogFindingCode, ExitCode>> = {
  LOG_INCONSISTENT: EXIT.logRewritten,
  LOG_SPLIT: EXIT.logSplit,
  INVALID_SIGNATURE: EXIT.logUnsigned,
  LOG_FOREIGN: EXIT.logUnsigned,
  TREE_HEAD_STALE: EXIT.logStale,
}

export async function registryAudit(
  context: Context,
  url: string,
  options: RegistryAuditOptions,
): Promise<void> {
  if (!URL.canParse(url)) throw new UsageError('The registry is named by its URL')
  const { fingerprint, watch } = options
  if (fingerprint !== undefined && !/^[0-9a-f]{64}$/.test(fingerprint)) {
    throw new UsageError('A fingerprint is 64 digits of lower-case hex')
  }
  const file = options.state === undefined ? defaultStateFile(context, url) : resolve(options.state)
  const end = new AbortController()
  const stop = (): void => end.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  while (!end.signal.aborted) {
    try {
      const audit = await auditLog({
        url,
        state: readState(file),
        fingerprint,
        now: Date.now,
        signal: end.signal,
        onEntry: (index, entry) => showEntry(context, index, entry),
      })
      showVerdict(context, audit)
      if (audit.finding !== undefined) {
        process.exitCode = EXIT_OF[audit.finding.code]
        return
      }
      if (audit.state !== undefined) writeState(file, audit.state)
    } catch (error) {
      if (end.signal.aborted) return
      // What cannot be reached now is looked at again; who watches wants to know of it and go on.
      if (watch === undefined || !isAgentMeshError(error)) throw error
      if (error.code !== 'REGISTRY_UNREACHABLE' && error.code !== 'REGISTRY_ANSWER_INVALID') throw error
      note(`${error.code}: ${escapeText(error.message)}`)
    }
    if (watch === undefined) return
    await sleep(watch * 1000, undefined, { signal: end.signal }).catch(() => undefined)
  }
}

function defaultStateFile(context: Context, url: string): string {
  const { host } = new URL(url)
  return join(homePath(context), STATE_FOLDER, `${host.replaceAll(/[^a-z0-9.-]/g, '_')}.json`)
}

/** @throws HOME_DAMAGED, HOME_FAILED */
function readState(file: string): LogState | undefined {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(file)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new AgentMeshError('HOME_FAILED', `${file} cannot be read`, { cause })
  }
  try {
    return parseLogState(parseJsonObject(bytes, MAX_STATE_BYTES))
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', `${file} is not what an audit left`, { cause })
  }
}

/** @throws HOME_FAILED */
function writeState(file: string, state: LogState): void {
  const temporary = `${file}.${process.pid}.tmp`
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(temporary, `${canonicalText(state)}\n`, { mode: 0o600, flush: true })
    renameSync(temporary, file)
  } catch (cause) {
    throw new AgentMeshError('HOME_FAILED', `${file} cannot be written`, { cause })
  }
}

/** What an entry is about. Names come from others: they are escaped where they are printed. */
function describe(entry: LogEntry): JsonObject {
  try {
    if (entry.kind !== 'certificate') {
      const { type: _, ...facts } = parseJsonObject(entry.content, MAX_CONTENT_BYTES)
      return facts
    }
    const certificate = parseCertificate(entry.content)
    const { subject, serial, did, dnsNames } = certificate
    return {
      certificate: kindOf(certificate) ?? 'unknown',
      serial,
      ...(did === undefined ? {} : { subject: did }),
      ...(subject.commonName === undefined ? {} : { name: subject.commonName }),
      ...(subject.organization === undefined ? {} : { organization: subject.organization }),
      ...(dnsNames[0] === undefined ? {} : { domain: dnsNames[0] }),
      not_after: formatTimestamp(certificate.notAfter),
    }
  } catch {
    return { unreadable: true }
  }
}

function showEntry(context: Context, index: number, entry: LogEntry | undefined): void {
  const kind = entry?.kind ?? 'unknown'
  const at = entry === undefined ? null : formatTimestamp(entry.timestamp)
  const facts = entry === undefined ? { unreadable: true } : describe(entry)
  if (context.json) {
    print(jsonLine({ event: 'entry', index, kind, at, ...facts }))
    return
  }
  const text = Object.entries(facts).map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  print(`${color.dim(`${index} ${at ?? '-'}`)} ${escapeText(`${kind} ${text.join(' ')}`)}`)
}

function showVerdict(context: Context, { finding, registry, state, entries }: LogAudit): void {
  const about = registry === undefined ? {} : { registry: registry.fingerprint, name: registry.name }
  if (context.json) {
    const head = state?.tree_head
    const result =
      finding === undefined
        ? { ok: true, size: head?.size, root_hash: head?.root_hash, new_entries: entries }
        : { ok: false, ...finding, seen: finding.seen ?? null, shown: finding.shown ?? null }
    print(jsonLine({ event: 'audited', ...about, ...result }))
    return
  }
  const who = registry === undefined ? '' : ` ${escapeText(registry.name)} ${color.dim(registry.fingerprint)}`
  if (finding === undefined) {
    print(`${color.green('The log is consistent')}:${who}, ${state?.tree_head.size} entries, ${entries} new`)
    return
  }
  print(`${color.red(LOG_FINDINGS[finding.code])}:${who}: ${escapeText(finding.detail)}`)
  for (const [name, head] of [
    ['seen', finding.seen],
    ['shown', finding.shown],
  ] as const) {
    if (head !== undefined) print(`  ${name.padEnd(5)} ${jsonLine(head)}`)
  }
}
