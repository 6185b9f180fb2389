/** TURN credentials: what a relay gives out opens a real coturn, for a while, and nothing else does. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRelay, type RelayOptions, type RunningRelay } from '@agentmesh/relay'
import { fetchTurnCredentials, TURN_PATH, type TurnCredentials } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { signRequest, type Identity } from '@agentmesh/sdk/identity'
import { freePort } from '../../apps/relay/src/test-support-nats.ts'
import { allocate, TestTurn, turnMissing } from '../support/turn-server.ts'
import { newIdentity } from './relay-harness.ts'

const SECRET = 'north-wind-under-the-door'
const URIS = ['turn:turn.example.org:3478?transport=udp', 'turns:turn.example.org:5349?transport=tcp']
const running: RunningRelay[] = []
afterAll(() => Promise.all(running.map((relay) => relay.close())))

async function relayWith(options: Partial<RelayOptions> = {}): Promise<RunningRelay> {
  const turn = { uris: URIS, secret: SECRET, ttlSeconds: 600 }
  const relay = await startRelay({
    dataPath: ':memory:',
    turn,
    limits: { closeGraceMs: 50 },
    ...options,
  })
  running.push(relay)
  return relay
}

const ask = (relay: RunningRelay, identity: Identity, now = Date.now()) =>
  fetchTurnCredentials(`${relay.url}/v1/connect`, identity, { now: () => now, random: systemRandom })

describe('a relay', () => {
  test('gives an agent credentials that end, under one name that is not its AMID', async () => {
    const relay = await relayWith()
    const [alice, bob] = [newIdentity(), newIdentity()]
    const before = Math.floor(Date.now() / 1000)
    const [first, again, others] = [await ask(relay, alice), await ask(relay, alice), await ask(relay, bob)]
    expect(first.uris).toEqual(URIS)
    const [end, name] = first.username.split(':')
    expect(Number(end)).toBeGreaterThanOrEqual(before + 600)
    expect(Date.parse(first.expires_at)).toBe(Number(end) * 1000)
    expect(name).toBe(again.username.split(':')[1])
    expect(name).not.toBe(others.username.split(':')[1])
    expect(first.username).not.toContain(alice.amid.slice(0, 6))
    expect(relay.stats().turnCredentials).toBe(3)
  })

  test('gives an agent few at a time', async () => {
    const relay = await relayWith({ limits: { turnCredentials: { perSecond: 0.01, burst: 2 } } })
    const [alice, bob] = [newIdentity(), newIdentity()]
    await ask(relay, alice)
    await ask(relay, alice)
    await expect(ask(relay, alice)).rejects.toMatchObject({ code: 'RATE_LIMITED', retryAfterSeconds: 100 })
    await ask(relay, bob)
  })

  test('checks no more signatures of an address than it does for CONNECTs', async () => {
    const relay = await relayWith({ limits: { signatureChecksPerIp: { perSecond: 0.01, burst: 1 } } })
    await ask(relay, newIdentity())
    await expect(ask(relay, newIdentity())).rejects.toMatchObject({ code: 'RATE_LIMITED' })
  })

  test('without a TURN server says so', async () => {
    const relay = await startRelay({ dataPath: ':memory:', limits: { closeGraceMs: 50 } })
    running.push(relay)
    await expect(ask(relay, newIdentity())).rejects.toMatchObject({ code: 'TURN_UNAVAILABLE' })
  })

  describe('refuses', () => {
    let relay: RunningRelay
    let url: string
    beforeAll(async () => {
      relay = await relayWith()
      url = relay.url.replace(/^ws/, 'http') + TURN_PATH
    })

    const signed = (to: string, now = Date.now()) =>
      signRequest({ method: 'POST', url: to }, newIdentity(), { now, nonce: systemRandom(16) })
    const post = async (headers: Record<string, string>, body?: string) => {
      const response = await fetch(url, { method: 'POST', headers, ...(body === undefined ? {} : { body }) })
      return [response.status, ((await response.json()) as { code: string }).code]
    }

    test('a request without a signature', async () => {
      expect(await post({})).toEqual([401, 'INVALID_SIGNATURE'])
    })
    test('the same request twice', async () => {
      const headers = signed(url)
      const first = await fetch(url, { method: 'POST', headers })
      expect(first.status).toBe(200)
      expect(await post(headers)).toEqual([401, 'SIGNATURE_REPLAYED'])
    })
    test('a request signed for another server, or another path', async () => {
      expect(await post(signed(`https://other.example${TURN_PATH}`))).toEqual([401, 'INVALID_SIGNATURE'])
      expect(await post(signed(url.replace('turn', 'connect')))).toEqual([401, 'INVALID_SIGNATURE'])
    })
    test('a request of last hour', async () => {
      expect(await post(signed(url, Date.now() - 3_600_000))).toEqual([401, 'SIGNATURE_EXPIRED'])
    })
    test('a body that no signature covers', async () => {
      expect(await post(signed(url), '{"ttl_seconds":999999}')).toEqual([400, 'MALFORMED'])
    })
    test('another name than its own', async () => {
      const named = await relayWith({ names: ['relay.example.org'] })
      await expect(ask(named, newIdentity())).rejects.toMatchObject({ code: 'WRONG_AUTHORITY' })
    })
    test('another method', async () => {
      expect((await fetch(url)).status).toBe(405)
    })
  })
})

describe('an agent', () => {
  const answering = (status: number, body: string | ReadableStream) => () =>
    Promise.resolve(new Response(body, { status }))
  const fetched = (fetchFunction: typeof fetch) =>
    fetchTurnCredentials('wss://relay.example/v1/connect', newIdentity(), {
      now: Date.now,
      random: systemRandom,
      fetch: fetchFunction,
    })

  test.each<[string, number, string, string]>([
    ['takes no answer that is none', 200, '{"uris":[]}', 'MALFORMED'],
    [
      'dials no address that is no TURN server',
      200,
      '{"uris":["http://169.254.169.254/"],"username":"1:a","password":"x","expires_at":"2030-01-01T00:00:00Z"}',
      'MALFORMED',
    ],
    ['takes no page for an answer', 502, '<html>', 'JSON_SYNTAX'],
    ['hears of its own state from nobody', 500, '{"code":"STATE_DAMAGED","message":"x"}', 'MALFORMED'],
    ['reads no more than it should', 200, ' '.repeat(20_000), 'TOO_LARGE'],
  ])('%s', async (_name, status, body, code) => {
    await expect(fetched(answering(status, body))).rejects.toMatchObject({ code })
  })

  test('says that a relay does not answer', async () => {
    const failing = () => Promise.reject(new TypeError('fetch failed'))
    await expect(fetched(failing)).rejects.toMatchObject({ code: 'RELAY_DISCONNECTED' })
  })
})

describe.skipIf(turnMissing)('coturn (Debian package coturn)', () => {
  let folder: string
  let turn: TestTurn
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agentmesh-turn-'))
    turn = await TestTurn.start(folder, await freePort(), SECRET)
  })
  afterAll(async () => {
    await turn.stop()
    rmSync(folder, { recursive: true })
  })

  const credentials = async (options: Partial<RelayOptions> = {}): Promise<TurnCredentials> =>
    ask(await relayWith(options), newIdentity())

  test('gives an allocation for what the relay gave out', async () => {
    const { relayedPort } = (await allocate(turn.port, await credentials())) as { relayedPort: number }
    expect(relayedPort).toBeGreaterThan(0)
  })

  test('refuses a secret of another relay', async () => {
    const turnSettings = { uris: URIS, secret: 'south-wind-over-the-sea', ttlSeconds: 600 }
    expect(await allocate(turn.port, await credentials({ turn: turnSettings }))).toEqual({ refused: 401 })
  })

  test('refuses a longer life than was signed, and another name', async () => {
    const { username, password } = await credentials()
    const [end, name] = username.split(':')
    const longer = `${Number(end) + 1}:${name}`
    expect(await allocate(turn.port, { username: longer, password })).toEqual({ refused: 401 })
    expect(await allocate(turn.port, { username: `${end}:somebody`, password })).toEqual({ refused: 401 })
    const flipped = (password.startsWith('A') ? 'B' : 'A') + password.slice(1)
    expect(await allocate(turn.port, { username, password: flipped })).toEqual({ refused: 401 })
  })

  test('refuses what has ended', async () => {
    const hourAgo = Date.now() - 3_600_000
    const relay = await relayWith({ now: () => hourAgo })
    const ended = await ask(relay, newIdentity(), hourAgo)
    expect(Date.parse(ended.expires_at)).toBeLessThan(Date.now())
    expect(await allocate(turn.port, ended)).toEqual({ refused: 401 })
  })
})
