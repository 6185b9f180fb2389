/**
 * The transparency log: appends and proofs a second on SQLite, and checks of a proof. Beside them what each cannot do
 * without: a bare insert of the same bytes with its forced write, a bare query for one row, one signature check and the
 * hashes of the path.
 * Run after a build: node bench/transparency.mjs [--entries 20000]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DatabaseSync } from '@photostructure/sqlite'
import { openSqliteStore } from '../apps/registry/dist/store/sql-store.js'
import { TransparencyLog } from '../apps/registry/dist/transparency/transparency-log.js'
import * as crypto from '../packages/sdk/dist/crypto/index.js'
import * as identity from '../packages/sdk/dist/identity/index.js'
import { fromBase64, toHex, unsignedBytes } from '../packages/sdk/dist/wire/index.js'
import { compare, printComparison, printMachine } from './lib/measure.mjs'

const { values } = parseArgs({ options: { entries: { type: 'string', default: '20000' } } })
const ENTRIES = Number(values.entries)
const BATCH = 500
const APPENDS = 500
const PROOFS = 2_000
const CERTIFICATE_BYTES = 450
const now = Date.now()
const registry = {
  fingerprint: 'ab'.repeat(32),
  serviceKey: crypto.ed25519KeyPair(crypto.systemRandom(32)),
}
const folder = mkdtempSync(join(tmpdir(), 'agentmesh-bench-log-'))

/** @param {string} name @param {number} calls @param {(call: number) => unknown} work */
async function rate(name, calls, work) {
  const begin = performance.now()
  for (let call = 0; call < calls; call++) await work(call)
  const perSecond = (1000 * calls) / (performance.now() - begin)
  console.log(`${name.padEnd(60)}${Math.round(perSecond).toString().padStart(8)}/s`)
  return perSecond
}

/** @param {number} part @param {number} whole */
function ratio(part, whole) {
  console.log(
    `${''.padEnd(60)}${Math.round((100 * part) / whole)
      .toString()
      .padStart(8)} % of it`,
  )
}

const entry = () => ({
  kind: /** @type {const} */ ('certificate'),
  timestamp: now,
  content: crypto.systemRandom(CERTIFICATE_BYTES),
})

printMachine()
const store = await openSqliteStore(join(folder, 'log.db'))
const log = new TransparencyLog(store.transparency, registry)
try {
  const bare = new DatabaseSync(join(folder, 'bare.db'))
  bare.exec(
    'pragma journal_mode = wal; pragma synchronous = full; create table log (id integer primary key, entry text)',
  )
  const insert = bare.prepare('insert into log (entry) values (?)')
  const text = Buffer.from(crypto.systemRandom(CERTIFICATE_BYTES + 9)).toString('base64')

  console.log(`\nappends, wall clock, ${CERTIFICATE_BYTES} bytes each, a transaction and a forced write each`)
  const bareInserts = await rate('bare insert of the entry', APPENDS, () => insert.run(text))
  const appends = await rate('append', APPENDS, () =>
    store.transaction('append', (tx) => store.transparency.append(tx, entry())),
  )
  ratio(appends, bareInserts)

  console.log(`\nappends, wall clock, ${BATCH} in a transaction, to ${ENTRIES} entries`)
  const bareBatch = await rate('bare inserts, batches a second', 20, () => {
    bare.exec('begin')
    for (let row = 0; row < BATCH; row++) insert.run(text)
    bare.exec('commit')
  })
  const batches = await rate('appends, batches a second', Math.ceil((ENTRIES - APPENDS) / BATCH), () =>
    store.transaction('append', async (tx) => {
      for (let row = 0; row < BATCH; row++) await store.transparency.append(tx, entry())
    }),
  )
  ratio(batches, bareBatch)
  bare.close()

  const size = await store.transparency.size()
  console.log(`\nproofs, wall clock, one after the other, a log of ${size} entries`)
  const hashes = (await store.transparency.entries(0, PROOFS)).map((bytes) =>
    toHex(crypto.sha256(identity.parseLogEntry(bytes).content)),
  )
  await log.head(now)
  const reads = await rate('one row by its hash', PROOFS, (call) =>
    store.transparency.findCertificate(hashes[call % hashes.length] ?? ''),
  )
  const proofs = await rate('certificate proof', PROOFS, (call) =>
    log.certificateProof(hashes[call % hashes.length] ?? '', now),
  )
  ratio(proofs, reads)
  const consistencies = await rate('consistency proof', PROOFS, (call) => log.consistency(call + 1, size))
  ratio(consistencies, reads)

  console.log('\nchecking a proof, processor time')
  const der = identity.parseLogEntry((await store.transparency.entries(7, 1))[0] ?? new Uint8Array()).content
  const proof = await log.certificateProof(toHex(crypto.sha256(der)), now)
  const key = { fingerprint: registry.fingerprint, serviceKey: registry.serviceKey.publicKey }
  const { tree_head, path } = proof
  const signature = fromBase64(tree_head.signature)
  const covered = unsignedBytes(tree_head)
  const node = crypto.systemRandom(65)
  const checks = compare(
    () => identity.verifyCertificateProof(der, proof, key, now),
    () => {
      crypto.verify('tree-head', key.serviceKey, signature, covered)
      for (let level = 0; level <= path.length; level++) crypto.sha256(node)
    },
  )
  printComparison(`a certificate proof of ${path.length} hashes`, checks)
} finally {
  await store.close()
  rmSync(folder, { recursive: true })
}
