import Fastify, { type FastifyInstance } from 'fastify'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import {
  encodeLogEntry,
  leafHash,
  rootOf,
  verifyCertificateProof,
  verifyConsistency,
  verifyInclusion,
  verifyTreeHead,
} from '@agentmesh/sdk/identity'
import {
  CertificateProof,
  ConsistencyProof,
  fromBase64,
  InclusionProof,
  LogEntries,
  toHex,
  TreeHead,
  utf8Bytes,
  validate,
} from '@agentmesh/sdk/wire'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Authority } from '../authority/authority.ts'
import { makeLimiters, type Context } from '../context.ts'
import { DEFAULT_LIMITS } from '../limits.ts'
import { RegistryMetrics } from '../metrics.ts'
import { sendRefusal } from '../refusals.ts'
import { SchemaCatalogue } from '../schema-catalogue.ts'
import { openSqliteStore } from '../store/sql-store.ts'
import type { Store } from '../store/store.ts'
import { NOW } from '../test-support.ts'
import { addTransparencyRoutes } from './routes.ts'

const serviceKey = ed25519KeyPair(sha256(utf8Bytes('service key')))
const fingerprint = 'ab'.repeat(32)
const key = { fingerprint, serviceKey: serviceKey.publicKey }
const limits = { ...DEFAULT_LIMITS, logReadsPerIp: { perSecond: 1, burst: 30 } }
const der = (index: number) => utf8Bytes(`certificate ${index}`)
const entryOf = (index: number) =>
  encodeLogEntry({ kind: 'certificate', timestamp: NOW, content: der(index) })
const LEAVES = Array.from({ length: 300 }, (_, index) => leafHash(entryOf(index)))

let store: Store
let app: FastifyInstance

/** The routes alone: who certifies is beside the point here, but for its name and its key. */
function serve(authority: Pick<Authority, 'fingerprint' | 'serviceKey'> | undefined): FastifyInstance {
  const logger = pino({ level: 'silent' })
  const metrics = new RegistryMetrics()
  const context: Omit<Context, 'people'> = {
    store,
    limits,
    limiters: makeLimiters(limits),
    metrics,
    schemas: new SchemaCatalogue(),
    authority: authority as Authority | undefined,
    now: () => NOW,
    administrators: [],
    authorities: new Set(),
    leaving: new AbortController().signal,
  }
  const made: FastifyInstance = Fastify()
  made.setValidatorCompiler(() => () => true)
  made.setSerializerCompiler(() => JSON.stringify)
  made.setErrorHandler((error, request, reply) => sendRefusal(metrics, logger, error, request, reply))
  addTransparencyRoutes(made, context as Context)
  return made
}

async function get(path: string): Promise<{ status: number; body: unknown }> {
  const answer = await app.inject({ method: 'GET', url: `/v1/registry/${path}` })
  return { status: answer.statusCode, body: answer.json() }
}

async function append(from: number, to: number): Promise<void> {
  await store.transaction('append', async (tx) => {
    for (let index = from; index < to; index++) {
      await store.transparency.append(tx, { kind: 'certificate', timestamp: NOW, content: der(index) })
    }
  })
}

beforeEach(async () => {
  store = await openSqliteStore(':memory:')
  app = serve({ fingerprint, serviceKey })
})
afterEach(async () => {
  await app.close()
  await store.close()
})

describe('the log over HTTP', () => {
  it('gives a signed head, and proofs that hold under it', async () => {
    await append(0, 7)
    const head = validate(TreeHead, (await get('log/head')).body)
    const { rootHash } = verifyTreeHead(head, key)
    expect(rootHash).toEqual(rootOf(LEAVES.slice(0, 7)))

    const inclusion = validate(InclusionProof, (await get('log/proof?index=6&size=7')).body)
    const path = inclusion.path.map(fromBase64)
    const leaf = fromBase64(inclusion.leaf_hash)
    expect(leaf).toEqual(LEAVES[6])
    expect(verifyInclusion({ leaf, index: 6, size: 7, root: rootHash, path })).toBe(true)

    const consistency = validate(ConsistencyProof, (await get('log/consistency?from=3&to=7')).body)
    const claim = { from: 3, to: 7, fromRoot: rootOf(LEAVES.slice(0, 3)), toRoot: rootHash }
    expect(verifyConsistency({ ...claim, path: consistency.path.map(fromBase64) })).toBe(true)
  })

  it('gives the proof of a certificate by the hash of its bytes', async () => {
    await append(0, 5)
    const hash = toHex(sha256(der(3)))
    const proof = validate(CertificateProof, (await get(`certificates/proof?certificate=${hash}`)).body)
    expect(verifyCertificateProof(der(3), proof, key, NOW).size).toBe(5)
    const unknown = toHex(sha256(der(5)))
    expect(await get(`certificates/proof?certificate=${unknown}`)).toMatchObject({
      status: 404,
      body: { code: 'NOT_FOUND' },
    })
  })

  it('gives its entries in bounded pages', async () => {
    await append(0, 300)
    const page = async (query: string) =>
      validate(LogEntries, (await get(`log/entries?${query}`)).body).entries.map(fromBase64)
    expect(await page('start=298&limit=256')).toEqual([entryOf(298), entryOf(299)])
    expect(await page('start=0&limit=999999')).toHaveLength(256)
    expect(await page('start=0')).toHaveLength(256)
    expect(await page('start=300')).toEqual([])
  })

  it.each([
    'log/proof?index=0&size=3',
    'log/proof?index=2&size=2',
    'log/proof?index=999999999999999&size=999999999999999',
    'log/consistency?from=2&to=1',
    'log/consistency?from=0&to=3',
    'log/entries?start=3',
  ])('answers 404 for %s of a log of two', async (path) => {
    await append(0, 2)
    expect(await get(path)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } })
  })

  it.each([
    'log/proof',
    'log/proof?index=-1&size=2',
    'log/proof?index=1.5&size=2',
    'log/proof?index=01&size=2',
    'log/proof?index=0&size=9007199254740993',
    'log/proof?index=0&index=1&size=2',
    'log/consistency?from=0',
    'log/consistency?from=0x1&to=2',
    'log/entries?start=0&limit=0',
    'log/entries?start=0&limit=-5',
    'log/entries?start=0&from=1',
    'certificates/proof?certificate=ab',
    `certificates/proof?certificate=${'AB'.repeat(32)}`,
    `certificates/proof?certificate=${'%27'.repeat(64)}`,
  ])('answers 400 for %s', async (path) => {
    await append(0, 2)
    expect(await get(path)).toMatchObject({ status: 400, body: { code: 'MALFORMED' } })
  })

  it('is limited by address', async () => {
    for (let call = 0; call < limits.logReadsPerIp.burst; call++) {
      expect((await get('log/head')).status).toBe(200)
    }
    for (const path of ['log/head', 'log/entries?start=0', 'log/consistency?from=0&to=0']) {
      expect(await get(path)).toMatchObject({
        status: 429,
        body: { code: 'RATE_LIMITED', retry_after_seconds: 1 },
      })
    }
  })

  it('is not there when the registry certifies nobody', async () => {
    await app.close()
    app = serve(undefined)
    for (const path of ['log/head', 'log/entries?start=0', `certificates/proof?certificate=${fingerprint}`]) {
      expect(await get(path)).toMatchObject({ status: 403, body: { code: 'TIER_UNAVAILABLE' } })
    }
  })
})
