/**
 * Opening a home: lock, identity, configuration, policy, state, log. What was opened is closed again when a later step
 * fails.
 */
import { EventEmitter } from 'node:events'
import { readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { systemRandom, type RandomBytes } from '../crypto/index.ts'
import { HttpRegistryClient } from '../discovery/index.ts'
import { createIdentity, Home, openIdentity, type HomeIdentity } from '../identity/index.ts'
import { SchemaBook } from '../messages/index.ts'
import { formatTimestamp, isAgentMeshError, type AgentMeshError } from '../wire/index.ts'
import { AUDIT_FOLDER, auditRecord, AuditTrail } from './audit-trail.ts'
import {
  DEFAULT_REGISTRY_URL,
  DEFAULT_RELAY_URL,
  hasConfig,
  normalRelays,
  readConfig,
  renewConfig,
  writeConfig,
  type Config,
} from './config.ts'
import { background, type AgentEvents, type AgentStore, type Core } from './core.ts'
import { PolicyFile } from './policy-file.ts'
import { Registries } from './trust/registries.ts'
import { tellRefusals } from './trust/refused-answers.ts'
import { StateCounter, type StateFound } from './state-counter.ts'
import { acquireLock, StateStore } from './store/index.ts'
import { STORE_LAYOUT, UNGUARDED_TABLES } from './tables.ts'
import { TrustFile } from './trust/trust-file.ts'
import type { Notice } from './types.ts'

const STATE_FILE = 'state.db'
/** What the owner is told of a state that is not the one used last. */
const FOUND: Readonly<Record<Exclude<StateFound, 'same'>, string>> = {
  older: 'an older copy was put back: its sessions and prekeys are not used again',
  lost: 'the file was gone; a new one was made',
  outdated:
    'written by an earlier version of this program, whose sessions and prekeys are of no use to this one: what was not ' +
    'confirmed goes out on new sessions',
}
const SCHEMA_FOLDER = 'schemas'
/** What is opened by name, past `Home`: its files may be no more open than all others (SQLite's, and the logs). */
const PRIVATE = [
  'lock.db',
  'lock.json',
  'state.db',
  'state.db-wal',
  'state.db-shm',
  'state.db-journal',
  AUDIT_FOLDER,
]

export interface AgentOptions {
  /** The home folder. Made, with a new identity, when it is not there. */
  home: string
  /** Opens keys that were sealed under a passphrase; for a new identity, seals them. */
  passphrase?: string
  /** Overrides of `config.json`; written to it when the home is new. */
  config?: Partial<Config>
  /** Milliseconds since the epoch. Default the system's clock. */
  now?: () => number
  /** Secure random bytes of the length asked for. Default the system's. */
  random?: RandomBytes
}

export interface OpenedCore {
  readonly core: Core
  /** Present once, when the identity was made here. */
  readonly recoveryWords: string | undefined
  /** What the owner should know of how the home was found. */
  readonly notices: readonly Notice[]
  /** Unless it is `same`, what the state holds of sessions and prekeys must not be used. */
  readonly found: StateFound
  /** Closes the store and frees the lock. */
  readonly release: () => void
}

/** @throws as `Agent.open` */
export async function openCore(options: AgentOptions): Promise<OpenedCore> {
  const now = options.now ?? Date.now
  const random = options.random ?? systemRandom
  const home = Home.create(options.home)
  home.requirePrivate(...PRIVATE)
  const unlock = acquireLock(home.path, now)
  const state = new StateCounter(home)
  let store: AgentStore | undefined
  const release = (): void => {
    store?.close()
    state.close()
    unlock()
  }
  try {
    const { identity, recoveryWords } = openOrCreate(home, options, random, now())
    renewConfig(home)
    const given = { ...readConfig(home), ...options.config }
    const config = { ...given, relays: normalRelays(given.relays) }
    const policy = new PolicyFile(home)
    const startedAt = now()
    const events = new EventEmitter<AgentEvents>()
    events.setMaxListeners(0)
    const notices: Notice[] = []
    const trail = new AuditTrail(home, identity, {
      now,
      onFailure: (error) =>
        events.emit('notice', { at: formatTimestamp(now()), about: 'audit', text: error.message }),
    })
    const opened = await openStore(home, identity, state, trail, random, startedAt, ({ code, message }) => {
      const text = `${code}: ${message}; what was deleted can still be read in ${STATE_FILE} with its key`
      const notice: Notice = { at: formatTimestamp(now()), about: 'erasure', text }
      // Before anybody listens, it is one of those that the start found.
      if (!events.emit('notice', notice)) notices.push(notice)
    })
    store = opened.store
    const { found, repairs } = opened
    const tell = (about: string, text: string): void => {
      notices.push({ at: formatTimestamp(now()), about, text })
    }
    trail.onGap = ({ id, detail }) => {
      const text = `${detail}; \`agentmesh audit verify\` tells more (gap ${id})`
      const notice: Notice = { at: formatTimestamp(now()), about: 'audit', text }
      if (!events.emit('notice', notice)) notices.push(notice)
    }
    await trail.open(store, auditRecord(store.tables.meta, opened, home))
    const audit = trail.log
    for (const detail of repairs) {
      audit.append({ event: 'state_recovered', ts: formatTimestamp(now()), what: STATE_FILE, detail })
      tell('recovery', `${STATE_FILE}: ${detail}`)
    }
    const trust = new TrustFile(home, now)
    const registries = new Registries(
      config.registry,
      (url, refused) => new HttpRegistryClient(url, identity, { now, random, refused }),
      () => trust.registries.map(({ url }) => url),
      tellRefusals({ audit, events, now }),
    )
    const schemas = openSchemas(home, (problem) => {
      const ts = formatTimestamp(now())
      audit.append({ event: 'agent_error', ts, code: 'SCHEMA_INVALID', detail: problem })
      tell('schema', problem)
    })
    const core: Core = {
      home,
      identity,
      config,
      store,
      state,
      audit,
      trail,
      policy,
      schemas,
      registries,
      trust,
      events,
      random,
      now,
      startedAt,
    }
    state.onFailure = (error) => {
      tell('recovery', error.message)
    }
    background(core, 'check the audit log', trail.check())
    return { core, recoveryWords, notices, found, release }
  } catch (error) {
    release()
    throw error
  }
}

/**
 * A state file that is damaged is set aside for its owner, and the agent goes on with a new one: sessions are repaired
 * with their peers, requests that were not answered are lost with the file. Single rows that do not open are dropped.
 */
async function openStore(
  home: Home,
  identity: HomeIdentity,
  state: StateCounter,
  trail: AuditTrail,
  random: RandomBytes,
  now: number,
  onUnerased: (error: AgentMeshError) => void,
) {
  const path = home.file(STATE_FILE)
  const open = async (
    wasDamaged = false,
  ): Promise<{ store: AgentStore; found: StateFound; wasUsed: boolean; repairs: string[] }> => {
    const store = StateStore.open(path, identity.storageKey, {
      ...STORE_LAYOUT,
      onUnerased,
      hook: {
        write(tables) {
          state.write(tables)
          trail.write(tables)
        },
        written() {
          state.written()
          trail.written()
        },
      },
      random,
    })
    try {
      const found = state.compare(store.tables.meta)
      const wasUsed = store.tables.meta.count() > 0
      const dropped = await store.commit((tables) => {
        // A start after a failed flush reads what the disk may not have: one write that is flushed makes it sure.
        tables.meta.put('opened', now)
        // Keys of which some are gone lie at the registry all the same: all are made anew.
        const lostKeys = tables.keys.dropDamaged()
        if (lostKeys > 0) for (const { key } of tables.keys.list()) tables.keys.delete(key)
        return Object.values(tables).reduce((total, table) => total + table.dropDamaged(), lostKeys)
      })
      const repairs = dropped === 0 ? [] : [`${dropped} damaged rows were dropped`]
      const changed = store.changedTables()
      const isChanged = changed.some((table) => !UNGUARDED_TABLES.includes(table))
      if (changed.length > 0) {
        const what = `rows of ${changed.join(', ')} are gone, or are earlier ones`
        repairs.push(isChanged ? `${what}: its sessions and prekeys are not used again` : what)
        // What is given up is accepted once it was.
        if (!isChanged) await store.acceptTables()
      }
      // Earlier rows are an older copy of a part.
      const older = isChanged && found === 'same'
      if (!older && found !== 'same' && (found !== 'lost' || !wasDamaged)) repairs.push(FOUND[found])
      return { store, found: older ? 'older' : found, wasUsed, repairs }
    } catch (error) {
      store.close()
      throw error
    }
  }
  try {
    return await open()
  } catch (error) {
    if (!isAgentMeshError(error, 'STATE_DAMAGED')) throw error
    const folder = home.folder(`damaged-${now}`)
    for (const suffix of ['', '-wal', '-shm']) {
      const file = `${STATE_FILE}${suffix}`
      if (home.has(file)) renameSync(join(home.path, file), join(folder, file))
    }
    const again = await open(true)
    return { ...again, repairs: [`${error.message}; the file is in ${folder}`] }
  }
}

/** The standard schemas, and those the owner put into `schemas/`. One that cannot be used is reported and left out. */
function openSchemas(home: Home, report: (problem: string) => void): SchemaBook {
  const book = new SchemaBook()
  if (!home.has(SCHEMA_FOLDER)) return book
  for (const name of readdirSync(home.folder(SCHEMA_FOLDER))) {
    try {
      const bytes = home.readFile(`${SCHEMA_FOLDER}/${name}`)
      if (bytes) book.install(bytes)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      report(`${SCHEMA_FOLDER}/${name}: ${error.message}`)
    }
  }
  return book
}

function openOrCreate(
  home: Home,
  options: AgentOptions,
  random: RandomBytes,
  now: number,
): { identity: HomeIdentity; recoveryWords: string | undefined } {
  const passphrase = options.passphrase === undefined ? {} : { passphrase: options.passphrase }
  if (!hasConfig(home)) {
    writeConfig(home, {
      registry: DEFAULT_REGISTRY_URL,
      relays: [DEFAULT_RELAY_URL],
      capabilities: [],
      ...options.config,
    })
  }
  if (home.has('keys')) return { identity: openIdentity(home, passphrase), recoveryWords: undefined }
  return createIdentity(home, { random, now, ...passphrase })
}
