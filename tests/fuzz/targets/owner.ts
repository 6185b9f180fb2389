/** Targets of what lies on the owner's disk: policy, configuration, state rows, audit log; and text shown to a person. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../../packages/sdk/src/agent/config.ts'
import { RecentValues } from '../../../packages/sdk/src/agent/store/recent-values.ts'
import { RowNames } from '../../../packages/sdk/src/agent/store/row-names.ts'
import { framedRow, placeOf, Table, type TableHost } from '../../../packages/sdk/src/agent/store/table.ts'
import { TABLES } from '../../../packages/sdk/src/agent/tables.ts'
import type { Statement } from '../../../packages/sdk/src/agent/store/sqlite.ts'
import type { TableCodec } from '../../../packages/sdk/src/agent/store/index.ts'
import { seal } from '../../../packages/sdk/src/crypto/sealing.ts'
import type { RandomBytes } from '../../../packages/sdk/src/crypto/signing.ts'
import {
  firstHash,
  lineHash,
  readHead,
  readLine,
  signHead,
} from '../../../packages/sdk/src/observability/audit-format.ts'
import { findEnd } from '../../../packages/sdk/src/observability/audit-resume.ts'
import { AuditLog, verifyAuditLog } from '../../../packages/sdk/src/observability/index.ts'
import {
  decodePending,
  decodeSession,
  defaultPolicy,
  encodePending,
  encodeSession,
  parsePolicy,
} from '../../../packages/sdk/src/session/index.ts'
import { NOW, testRandom } from '../../../packages/sdk/src/identity/test-support.ts'
import { knockOn, meet } from '../../../packages/sdk/src/session/test-support.ts'
import {
  ByteReader,
  canonicalBytes,
  concatBytes,
  escapeText,
  isAgentMeshError,
  parseMessageId,
  utf8Bytes,
} from '@agentmesh/sdk/wire'
import { mutateTree, parseTree, printTree } from '../mutate-json.ts'
import type { Random } from '../random.ts'
import { JSON_REFUSALS, textOf, type Target, type TargetMaker } from '../target.ts'
import { homeWith } from './identity.ts'

const { alice, bob, atAlice, atBob } = meet()
const PENDING = knockOn(alice, bob.verifiedBundle()).pending

/** Rows hold what passed the strict reader, so nothing in them is nested for thousands of levels. */
function shallow(text: string): string {
  return /\[{200}|(\{"a":){200}/.test(text) ? '{}' : text
}

/** A row in which the JSON part was changed and is still framed by its length: `before` bytes, u32 length, JSON, the rest. */
function reframed(row: Uint8Array, before: number, random: Random): Uint8Array {
  const reader = new ByteReader(row)
  const head = reader.bytes(before)
  const json = reader.bytes(reader.u32())
  const tree = parseTree(textOf(json))
  const text = utf8Bytes(shallow(printTree(mutateTree(tree, random, tree))))
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, text.length)
  return concatBytes(head, length, text, reader.rest())
}

function rows<T>(
  name: string,
  seeds: readonly Uint8Array[],
  read: (bytes: Uint8Array) => T,
  write: (value: T) => Uint8Array,
): Target {
  return {
    name,
    form: 'bytes',
    seeds,
    refusals: JSON_REFUSALS,
    dress: (_input, random) => reframed(random.pick(seeds), 1, random),
    read,
    write,
  }
}

const STORAGE_KEY = new Uint8Array(32).fill(6)
const ROW_KEY = 'key'
const NAMES = new RowNames(STORAGE_KEY)

/** A table over one row, without the database under it: the database gives the columns, the table judges them. */
function tableOver<T>(name: string, codec: TableCodec<T>) {
  let sealed = new Uint8Array(0)
  const stored = () => ({ key: NAMES.of(name, 'key', ROW_KEY), a: null, b: null, at: null, sealed })
  const host: TableHost = {
    storageKey: STORAGE_KEY,
    random: testRandom('rows'),
    statement: (): Statement => ({ get: stored, all: () => [stored()], run: () => ({ changes: 0 }) }),
    execute: (step) => step(),
    requireWork: () => undefined,
    names: NAMES,
    partOf: (nonce) => nonce,
    moved: () => undefined,
    eraseWithCommit: () => undefined,
    // Nothing is remembered, so that every row is opened.
    recentValues: () => new RecentValues(0),
    onUndo: () => undefined,
    isOpen: () => true,
  }
  const table = new Table(name, codec, host, { late: false, nameless: false, secret: false })
  return {
    get(row: Uint8Array): T | undefined {
      sealed = Uint8Array.from(row)
      return table.get(ROW_KEY)
    },
  }
}

function sealedRow(table: string, plain: Uint8Array, random: RandomBytes): Uint8Array {
  const place = placeOf(table, NAMES.of(table, 'key', ROW_KEY), null, null, null)
  return seal(STORAGE_KEY, framedRow(ROW_KEY, plain), place, random)
}

/** Rows of one table through seal and codec. Dressed ones open, as only what the key's owner wrote would. */
function tableRows(name: keyof typeof TABLES, values: readonly unknown[]): Target {
  const codec = TABLES[name] as TableCodec<unknown>
  const table = tableOver(name, codec)
  const sealed = (plain: Uint8Array, random = testRandom('row')) => sealedRow(name, plain, random)
  const plain = values.map((value) => codec.encode(value))
  return {
    name: `row-${name}`,
    form: 'bytes',
    seeds: plain.map((bytes) => sealed(bytes)),
    refusals: ['STATE_DAMAGED'],
    dress(input, random) {
      const draws = (length: number) => random.bytes(length)
      const seed = random.pick(plain)
      // A row is JSON, or begins with the length of its JSON part.
      if (seed[0] === 0) return sealed(random.oneIn(4) ? input : reframed(seed, 0, random), draws)
      const tree = parseTree(textOf(seed))
      return sealed(utf8Bytes(shallow(printTree(mutateTree(tree, random, tree)))), draws)
    },
    read: (input) => table.get(input),
    write: (value: unknown) => sealed(codec.encode(value)),
  }
}

const ID = parseMessageId('5f1d2c3b-4a59-4687-9abc-def012345678')

function outgoingRows(): Target {
  const intent = { category: 'travel' }
  const payload = { intent, parameters: { $bytes: 'a peer says so', deep: [{ $$bytes: 1 }, null, 1.5] } }
  const row = {
    id: ID,
    to: alice.identity.amid,
    type: 'request',
    payload,
    intent,
    sessionType: 'conversation',
    ttlSeconds: 60,
    state: 'queued',
    createdAt: NOW,
    expiresAt: NOW + 1,
    receipts: { stored: NOW },
    progress: [],
  }
  return tableRows('outgoing', [row])
}

function packetRows(): Target {
  const row = {
    id: ID,
    to: alice.identity.amid,
    type: 'message',
    packet: testRandom('packet')(64),
    awaitsReceipt: true,
    order: 1,
    attempts: 0,
    expiresAt: NOW,
  }
  return tableRows('packets', [row])
}

function policies(): Target {
  const custom = {
    ...defaultPolicy(),
    accepted_intents: ['travel', 'travel/flights', 'x-acme/parts/bolts'],
    blocklist: [alice.identity.amid],
    min_reputation: 0.25,
  }
  return {
    name: 'policy',
    form: 'json',
    seeds: [
      utf8Bytes('{}'),
      utf8Bytes(`${JSON.stringify(custom, null, 2)}\n`),
      utf8Bytes('{\r\n\t"rate_limit": {"knocks_per_minute": 3}, "strict_mode": true }'),
    ],
    edges: ['{"rate_limit":{"a.b":1}}', '{"a.b":1,"a":{"b":1}}', '{"notify_owner":null}', '[', '"'].map(
      utf8Bytes,
    ),
    refusals: ['POLICY_INVALID'],
    read: (input) => parsePolicy(textOf(input)),
    write: (policy: object) => utf8Bytes(JSON.stringify(policy)),
  }
}

function configs(): Target {
  const config = {
    registry: 'http://127.0.0.1:7700',
    relays: ['ws://127.0.0.1:7800/v1/connect', 'wss://relay.example'],
    relay_encoding: 'json',
    display_name: 'Näme',
    capabilities: ['travel', { category: 'travel', subcategory: 'flights', actions: ['search'] }],
    framework_stop_command: ['kill', '1'],
  }
  return {
    name: 'config',
    form: 'json',
    seeds: [canonicalBytes(config)],
    refusals: ['CONFIG_INVALID'],
    read: (input) => readConfig(homeWith(input)),
    write: (value: object) => canonicalBytes(value),
  }
}

async function auditFiles() {
  const { signing, amid } = alice.identity
  const dir = mkdtempSync(join(tmpdir(), 'agentmesh-fuzz-'))
  const log = AuditLog.open(dir, {
    identity: { signing },
    now: () => NOW,
    onFailure: (error) => {
      throw error
    },
  })
  for (const result of ['accepted', 'rejected'] as const) {
    const entry = { event: 'knock_answered', ts: new Date(NOW).toISOString(), to: amid, result } as const
    log.append(entry)
  }
  await log.flush()
  await log.close()
  const file = `${new Date(NOW).toISOString().slice(0, 10)}.0001.jsonl`
  const read = (name: string) => readFileSync(join(dir, name))
  return { dir, file, lines: read(file), head: read('head.json') }
}

/** The log of one file, its head as the first line: the chain and the head are put right where the lines allow it. */
function rechained(input: Uint8Array): Uint8Array {
  const { publicKey, secretKey } = alice.identity.signing
  const [, ...lines] = textOf(input).split('\n')
  let prev = firstHash(publicKey)
  const chained = lines.filter(Boolean).map((line, index) => {
    let text = line
    try {
      text = JSON.stringify({ ...(JSON.parse(line) as object), line: index + 1, prev })
    } catch {
      // Stays as it is: a line that is none.
    }
    prev = lineHash(utf8Bytes(text))
    return text
  })
  const head = signHead(secretKey, chained.length, prev, new Date(NOW).toISOString())
  return utf8Bytes(`${[JSON.stringify(head), ...chained].join('\n')}\n`)
}

async function auditLogs(): Promise<Target> {
  const { publicKey } = alice.identity.signing
  const { dir, file, lines, head } = await auditFiles()
  return {
    name: 'audit-log',
    form: 'text',
    seeds: [utf8Bytes(`${textOf(head).trim()}\n${textOf(lines)}`)],
    words: ['\n', '\n\n', '\r\n', '{}', '{"line":1}', '"line":', '"prev":', '999999999999', '\0', 'é'],
    refusals: ['AUDIT_DAMAGED'],
    dress: rechained,
    async read(input) {
      const end = input.indexOf(0x0a)
      writeFileSync(join(dir, 'head.json'), input.subarray(0, Math.max(0, end)))
      writeFileSync(join(dir, file), input.subarray(end + 1))
      const report = await verifyAuditLog(dir, publicKey)
      try {
        findEnd(dir, publicKey)
      } catch (error) {
        // What an agent will not go on with, the owner's check must not call sound.
        if (isAgentMeshError(error, 'AUDIT_DAMAGED') && report.ok)
          throw new Error('sound, yet not to be continued', { cause: error })
        throw error
      }
      return report
    },
    close: () => rmSync(dir, { recursive: true }),
  }
}

async function auditLines(): Promise<Target> {
  const { dir, lines } = await auditFiles()
  rmSync(dir, { recursive: true })
  return {
    name: 'audit-line',
    form: 'json',
    seeds: textOf(lines).split('\n').filter(Boolean).map(utf8Bytes),
    refusals: JSON_REFUSALS,
    read: readLine,
    write: (line: object) => canonicalBytes(line),
  }
}

function auditHeads(): Target {
  const { publicKey, secretKey } = alice.identity.signing
  const head = signHead(secretKey, 3, lineHash(utf8Bytes('line')), new Date(NOW).toISOString())
  return {
    name: 'audit-head',
    form: 'json',
    seeds: [canonicalBytes(head)],
    refusals: [...JSON_REFUSALS, 'INVALID_SIGNATURE'],
    dress(input) {
      try {
        const { line, hash, signed_at } = JSON.parse(textOf(input)) as typeof head
        return utf8Bytes(JSON.stringify(signHead(secretKey, line, hash, signed_at)))
      } catch {
        return input
      }
    },
    read: (input) => readHead(input, publicKey),
    write: (value: object) => canonicalBytes(value),
  }
}

const VISIBLE = /^[\n]?$|^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]*$/u

function shownText(): Target {
  return {
    name: 'shown-text',
    form: 'text',
    seeds: ['Alice', 'a\u202eb', '\u001b[31mred\u001b[0m', '👩‍👩‍👧', 'e\u0301', '\\u{202E}'].map(utf8Bytes),
    words: [
      '\u202e',
      '\u2066',
      '\u200d',
      '\u00ad',
      '\ufeff',
      '\u2028',
      '\u001b]0;',
      '\u0007',
      '\u{e0041}',
      '\ufe0f',
      '\u3164',
      '\u0000',
      '\u009b',
    ],
    refusals: [],
    read(input) {
      const text = textOf(input)
      const shown = escapeText(text)
      if (!VISIBLE.test(shown)) throw new Error('something unseen is left')
      if (escapeText(shown) !== shown) throw new Error('escaping twice is not escaping once')
      if (shown.length > 8 * text.length) throw new Error('longer than eight times the input')
      return shown
    },
  }
}

const SESSIONS = [atAlice, atBob, { ...atBob, state: 'closed' as const, closeReason: 'completed' as const }]

export const OWNER_TARGETS: Readonly<Record<string, TargetMaker>> = {
  policy: policies,
  config: configs,
  'session-value': () => rows('session-value', SESSIONS.map(encodeSession), decodeSession, encodeSession),
  'pending-value': () => rows('pending-value', [encodePending(PENDING)], decodePending, encodePending),
  'row-sessions': () =>
    tableRows(
      'sessions',
      SESSIONS.map((session) => ({ session, lane: 'lane', deliverNext: 1 })),
    ),
  'row-handshakes': () => tableRows('handshakes', [{ pending: PENDING, lane: 'lane', createdAt: NOW }]),
  'row-outgoing': outgoingRows,
  'row-packets': packetRows,
  'row-answers': () => tableRows('answers', [{ type: 'accept', packet: testRandom('answer')(64) }]),
  'audit-log': auditLogs,
  'audit-line': auditLines,
  'audit-head': auditHeads,
  'shown-text': shownText,
}
