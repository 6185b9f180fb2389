/** A few thousand hostile requests to every endpoint the registry describes; `npm run fuzz -- registry` has any number. */
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:http'
import { describe, expect, it } from 'vitest'
import { startPostgres } from '../../../apps/registry/src/test-support-postgres.ts'
import { memoryInUse } from '../run.ts'
import { fuzzedRegistry } from './registry.ts'
import { RequestSource } from './requests.ts'
import { judgeAnswer, MAX_ANSWER_BYTES } from './rules.ts'
import { runHttp, type HttpReport } from './run-http.ts'

const SEED = 20260202
const REQUESTS = 3_000
const WARM_UP = 1_000
const REQUESTS_ON_POSTGRES = 1_000
const MAX_GROWTH_BYTES = 32 * 1024 * 1024

/** Operations of which no request had success. */
function neverTaken(reports: readonly HttpReport[]): string[] {
  const operations = Object.keys(reports[0]?.statuses ?? {})
  return operations.filter((id) =>
    reports.every(({ statuses }) => Object.keys(statuses[id] ?? {}).every((status) => status >= '400')),
  )
}

describe('the registry under hostile requests', () => {
  it(
    'answers every endpoint of its OpenAPI document in form, and holds no more memory after',
    { timeout: 300_000 },
    async () => {
      const registry = await fuzzedRegistry(SEED)
      try {
        const first = await runHttp({ ...registry, requests: WARM_UP })
        const settled = memoryInUse()
        const report = await runHttp({ ...registry, from: WARM_UP, requests: REQUESTS - WARM_UP })
        const grown = memoryInUse() - settled
        expect([...first.findings, ...report.findings]).toEqual([])
        expect(grown).toBeLessThan(MAX_GROWTH_BYTES)

        const asked = Object.keys(report.statuses)
        expect(asked.toSorted()).toEqual(registry.source.operations.map(({ id }) => id).toSorted())
        // Requests come as far as the endpoints: nearly all take some, and refuse for many reasons.
        expect(neverTaken([first, report]).toSorted()).toEqual([])
        expect(Object.keys(report.codes).length).toBeGreaterThan(15)
        expect(await (await fetch(`${registry.url}/readyz`)).json()).toEqual({ status: 'ok' })
      } finally {
        await registry.close()
      }
    },
  )

  it('answers in form from PostgreSQL', { timeout: 300_000 }, async () => {
    const postgres = await startPostgres()
    try {
      const registry = await fuzzedRegistry(SEED + 1, { databaseUrl: await postgres.create() })
      try {
        const { findings } = await runHttp({ ...registry, requests: REQUESTS_ON_POSTGRES })
        expect(findings).toEqual([])
        const zeros = registry.source.withZeroBytes()
        expect(zeros.length).toBeGreaterThan(100)
        const source = { at: (index: number) => zeros[index]! }
        const report = await runHttp({ ...registry, source, requests: zeros.length })
        expect(report.findings).toEqual([])
      } finally {
        await registry.close()
      }
    } finally {
      await postgres.stop()
    }
  })

  it('makes the same request again from its seed and number', async () => {
    const document = {
      paths: { '/a/{id}': { get: { parameters: [{ name: 'id', in: 'path', schema: {} }] } } },
    }
    const make = () => new RequestSource(document, { seed: 1, words: [], named: {}, signers: 1, samples: {} })
    const requests = Array.from({ length: 50 }, (_, index) => make().at(index))
    expect(requests).toEqual(Array.from({ length: 50 }, (_, index) => make().at(index)))
    expect(new Set(requests.map(({ target }) => target)).size).toBeGreaterThan(20)
  })
})

describe('a server that is not sound', () => {
  const document = {
    paths: {
      '/sound': { get: {} },
      '/broken': {
        post: {
          requestBody: {
            content: {
              'application/json': { schema: { type: 'object', properties: { n: { type: 'integer' } } } },
            },
          },
        },
      },
    },
  }

  it('is found out by a crash, a hang-up, a leak, a foreign code and an endless answer', async () => {
    const codes = new Set(['MALFORMED'])
    const json = (code: string, message: string) => JSON.stringify({ code, message })
    const broken: [number, string][] = [
      [500, json('MALFORMED', 'x')],
      [0, ''],
      [400, json('MALFORMED', 'SQLITE_ERROR: no such table')],
      [400, json('INTERNAL', 'x')],
      [400, 'Bad Request'],
      [503, json('MALFORMED', 'x')],
      [200, 'x'.repeat(MAX_ANSWER_BYTES + 1)],
    ]
    for (const [status, text] of broken) {
      const server = createServer((request, response) => {
        if (request.url?.startsWith('/broken') !== true) response.writeHead(200).end()
        else if (status === 0) response.destroy()
        else response.writeHead(status, { 'content-type': 'application/json' }).end(text)
      })
      await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const source = new RequestSource(document, { seed: 3, words: [], named: {}, signers: 1, samples: {} })
      const { findings } = await runHttp({ url, source, codes, requests: 20, credentials: () => ({}) })
      expect(findings.length, `${status} ${text.slice(0, 40)}`).toBeGreaterThan(0)
      expect(findings.every(({ operation }) => operation === 'POST /broken')).toBe(true)
      server.close()
    }
  })

  it('is not said of one that refuses in form', () => {
    const text = JSON.stringify({ code: 'MALFORMED', message: 'Not in form' })
    const answer = { status: 400, contentType: 'application/json; charset=utf-8', text }
    expect(judgeAnswer('GET', answer, new Set(['MALFORMED']))).toBeUndefined()
  })
})
