/** Targets behind HTTP: what a registry answers, and what a client of the local API asks. */
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as textFrom } from 'node:stream/consumers'
import { decodeCursor, encodeCursor } from '../../../apps/registry/src/search.ts'
import type { Agent } from '../../../packages/sdk/src/agent/agent.ts'
import { LocalApi } from '../../../packages/sdk/src/agent/local-api.ts'
import { localApiPath } from '../../../packages/sdk/src/agent/local-api-path.ts'
import { defaultPolicy, parsePolicy } from '../../../packages/sdk/src/session/index.ts'
import { HttpRegistryClient } from '../../../packages/sdk/src/discovery/index.ts'
import { testBundle, testIdentity, testRandom, NOW } from '../../../packages/sdk/src/identity/test-support.ts'
import {
  AgentMeshError,
  canonicalBytes,
  ERROR_CODES,
  fromBase64Url,
  isErrorCode,
  toBase64Url,
  utf8Bytes,
  type ErrorCode,
} from '@agentmesh/sdk/wire'
import { mutateTree, parseTree, printTree } from '../mutate-json.ts'
import { textOf, type Target, type TargetMaker } from '../target.ts'
import { AGENT_RECORDS, readRequestText } from './identity.ts'

const ALL_CODES = Object.keys(ERROR_CODES) as ErrorCode[]
const STRANGER_CODES = ALL_CODES.filter((code) => 'stranger' in ERROR_CODES[code])

const agent = testIdentity('fuzzed')

/** First byte: which question was asked. Second: the status of the answer. The rest is its body. */
function registryAnswers(): Target {
  let answer = { status: 200, body: new Uint8Array(0) }
  const client = new HttpRegistryClient('http://registry.example', agent, {
    now: () => NOW,
    random: testRandom('registry'),
    fetch: async () => new Response(answer.status === 204 ? null : answer.body, { status: answer.status }),
  })
  const questions = [
    () => client.lookup(agent.amid),
    () => client.search({ capability: 'travel/flights' }),
    () => client.fetchBundle(agent.amid),
    () => client.prekeyCounts(),
    () => client.didDocument(agent.amid),
    () => client.schema('agentmesh/x'),
  ]
  const statuses = [200, 200, 204, 400, 404, 409, 429, 500, 503]
  const seed = (question: number, status: number, body: Uint8Array) =>
    Uint8Array.from([question, status, ...body])
  const [record = new Uint8Array(0)] = AGENT_RECORDS
  const records = AGENT_RECORDS.map((bytes) => JSON.parse(textOf(bytes)) as object)
  return {
    name: 'registry-answer',
    form: 'bytes',
    seeds: [
      seed(0, 0, record),
      seed(1, 0, canonicalBytes({ agents: records, next_cursor: null })),
      seed(2, 0, canonicalBytes(testBundle(agent))),
      seed(3, 0, utf8Bytes('{"one_time_prekeys":3,"one_time_kem_prekeys":4}')),
      seed(5, 0, utf8Bytes('{"$id":"agentmesh/x"}')),
    ],
    edges: [
      seed(0, 4, utf8Bytes('{"code":"AGENT_NOT_FOUND","message":"No"}')),
      seed(0, 6, utf8Bytes('{"code":"RATE_LIMITED","message":"Later","retry_after_seconds":3}')),
      seed(4, 0, record),
    ],
    refusals: [...STRANGER_CODES, 'REGISTRY_ANSWER_INVALID', 'REGISTRY_UNREACHABLE', 'KEY_EXPIRED'],
    async read(input) {
      answer = {
        status: statuses[(input[1] ?? 0) % statuses.length] ?? 200,
        body: Uint8Array.from(input.subarray(2)),
      }
      return questions[(input[0] ?? 0) % questions.length]?.()
    },
  }
}

/** An agent that does nothing: the API in front of it is what is read with. */
function idleAgent(home: string): Agent {
  const nothing = async () => ({})
  const conversation = { send: nothing, close: nothing, async *messages() {} }
  const idle: Readonly<Record<string, unknown>> = {
    home,
    events: new EventEmitter(),
    setPolicy: (policy: unknown) => parsePolicy(JSON.stringify(policy)),
    sent: () => ({ async *progress() {} }),
    conversation: () => conversation,
  }
  return new Proxy(idle, { get: (target, name) => target[String(name)] ?? nothing }) as unknown as Agent
}

const ID = '5f1d2c3b-4a59-4687-9abc-def012345678'
const BODIES: readonly (readonly [line: string, body?: unknown])[] = [
  ['GET /v1/status'],
  ['PUT /v1/policy', defaultPolicy()],
  [`GET /v1/decisions?from=${agent.amid}`],
  ['GET /v1/search?capability=travel/flights&limit=10&online=true&tier_min=verified'],
  [
    'POST /v1/send',
    {
      to: agent.amid,
      request: { intent: { category: 'travel' }, parameters: {} },
      options: { ttlSeconds: 5 },
    },
  ],
  [`GET /v1/messages/${ID}/progress`],
  [`GET /v1/sessions/${ID}`],
  [`POST /v1/sessions/${ID}/close`, { reason: 'completed' }],
  [`POST /v1/sessions/${ID}/messages`, { type: 'status', payload: { status: 'queued' }, in_reply_to: ID }],
  [`POST /v1/sessions/${ID}/export`, { keys: true }],
  ['POST /v1/block', { amid: agent.amid }],
  ['POST /v1/presence', { state: 'dnd' }],
  ['POST /v1/pause'],
  ['GET /v1/requests'],
]

/** Requests over the real socket; an answer must be JSON with a known code, and never say that we made a mistake. */
async function localApi(): Promise<Target> {
  const home = mkdtempSync(join(tmpdir(), 'agentmesh-fuzz-'))
  const api = new LocalApi(idleAgent(home), () => undefined)
  await api.listen()
  const connections = new HttpAgent({ keepAlive: true, maxSockets: 1 })
  const ask = (input: Uint8Array) => exchange(connections, localApiPath(home), input)
  return {
    name: 'local-api',
    form: 'text',
    seeds: BODIES.map(([line, body]) =>
      utf8Bytes(`${line}\n\n${body === undefined ? '' : JSON.stringify(body)}`),
    ),
    edges: [
      `POST /v1/requests/${ID}/answer\n\n{"results":[]}`,
      `POST /v1/requests/${ID}/status\n\n{"status":"queued"}`,
    ].map(utf8Bytes),
    words: ['/', '//', '..', '%00', '%', '%ff', '%2f', '?', '#', '&', '=', 'v1', '__proto__', 'constructor', '{', '}', '"', ':', '[', 'null',
      'POST ', 'PUT ', 'DELETE ', '\\', '\n\n', '@', '[::', 'http://a', 'é'], // prettier-ignore
    // Whatever the agent behind it says goes through; INTERNAL and the store's codes would be our own mistake.
    refusals: ALL_CODES.filter((code) => code !== 'INTERNAL' && !code.startsWith('STATE_')),
    read: ask,
    async close() {
      connections.destroy()
      await api.close()
      rmSync(home, { recursive: true })
    },
  }
}

/** A request target in a form that Node's client and server both let through. */
function targetOf(text: string): string {
  const target = text.replace(/[^\u0021-\u007e]/g, (character) =>
    character.isWellFormed() ? encodeURIComponent(character) : '',
  )
  return target.startsWith('/') ? target : `/${target}`
}

async function exchange(connections: HttpAgent, socketPath: string, input: Uint8Array): Promise<unknown> {
  const { method, target, headers, body } = readRequestText(input)
  const actor = headers['x-agentmesh-actor']
  const asked = httpRequest({
    agent: connections,
    socketPath,
    method: /^(GET|POST|PUT|DELETE|PATCH)$/.test(method) ? method : 'GET',
    path: targetOf(target),
    headers: {
      'content-length': body.length,
      ...(typeof actor === 'string' ? { 'x-agentmesh-actor': actor.replace(/[^ -~]/g, '') } : {}),
    },
  })
  // The server may end a connection whose body it no longer wants; what it answered before counts.
  asked.on('error', () => undefined)
  asked.end(body)
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  if (response.headers['content-type'] === 'application/x-ndjson') {
    // A stream may last for as long as its session: that it began is the answer.
    response.destroy()
    return 'a stream'
  }
  return judge(response.statusCode ?? 0, await textFrom(response))
}

function judge(status: number, text: string): unknown {
  // Node's own parser answers without a body: a line too long, a header it does not take.
  if (text === '' && (status === 400 || status === 431)) throw new AgentMeshError('MALFORMED')
  const answer = JSON.parse(text) as { code?: string; message?: string }
  if (status === 200) return answer
  if (answer.code === undefined || !isErrorCode(answer.code))
    throw new Error(`status ${status}, code ${answer.code}`)
  throw new AgentMeshError(answer.code, answer.message)
}

function cursors(): Target {
  const cursor = { asOf: NOW - 1000, position: { online: true, reputation: 0.5, amid: agent.amid } }
  return {
    name: 'search-cursor',
    form: 'text',
    seeds: [utf8Bytes(encodeCursor(cursor))],
    words: ['=', '-', '_', 'A', 'W10', 'bnVsbA'],
    refusals: ['MALFORMED'],
    // Dressed: the JSON inside changed, which no signature protects.
    dress: (_input, random) => {
      const inside = parseTree(textOf(fromBase64Url(encodeCursor(cursor))))
      return utf8Bytes(toBase64Url(utf8Bytes(printTree(mutateTree(inside, random, inside)))))
    },
    read: (input) => decodeCursor(textOf(input), NOW, 60_000),
    write: (value: typeof cursor) => utf8Bytes(encodeCursor(value)),
  }
}

export const NETWORK_TARGETS: Readonly<Record<string, TargetMaker>> = {
  'registry-answer': registryAnswers,
  'local-api': localApi,
  'search-cursor': cursors,
}
