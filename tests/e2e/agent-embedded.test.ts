/** Embedded agents at a relay and a registry: the main job, policy, breakers and conversations. */
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { amidFromBytes, readAuditLog } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, stagesOf, TestNetwork } from '../support/network.ts'

let network: TestNetwork

beforeEach(async () => {
  network = await TestNetwork.start()
})
afterEach(() => network.close())

test('a request finds its peer, passes policy, and is answered', async () => {
  const bob = await network.agent('bob', { capabilities: [FLIGHTS] })
  let told = (): void => {}
  const read = new Promise<void>((resolve) => {
    told = resolve
  })
  bob.on('request', async (request, context) => {
    // Receipts travel a little later than a quick answer would.
    await read
    await context.status({ status: 'processing', progress: 0.5 })
    return { results: { echo: request.payload.parameters, from: request.provenance.from } }
  })
  const alice = await network.agent('alice')
  alice.events.on('progress', (_id, event) => {
    if (event.stage === 'read') told()
  })
  const found = await alice.search({ capability: 'travel/flights' })
  expect(found.agents.map((agent) => agent.amid)).toEqual([bob.amid])

  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { origin: 'TLV' } })
  const stages = await stagesOf(sent)
  const answer = await sent.answer()
  expect(answer.payload).toMatchObject({
    status: 'success',
    results: { echo: { origin: 'TLV' }, from: alice.amid },
  })
  const byRelay = new Set(['sent', 'stored'])
  expect(stages.map((event) => event.stage).filter((stage) => !byRelay.has(stage))).toEqual([
    'queued',
    'looked_up',
    'knocked',
    'accepted',
    'delivered',
    'read',
    'status',
    'answered',
  ])
})

test('a request the handler fails on is answered with an error, and the next one still works', async () => {
  const bob = await network.agent('bob')
  let calls = 0
  bob.on('request', () => {
    calls++
    if (calls === 1) throw new Error('secret detail')
    return { results: calls }
  })
  const alice = await network.agent('alice')
  const first = await (await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })).answer()
  expect(first).toMatchObject({ type: 'error', payload: { code: 'HANDLER_FAILED' } })
  expect(JSON.stringify(first)).not.toContain('secret detail')
  const second = await (await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })).answer()
  expect(second).toMatchObject({ type: 'response', payload: { results: 2 } })
})

test('the same request id is answered once by the handler, and again from memory', async () => {
  const bob = await network.agent('bob')
  let calls = 0
  bob.on('request', () => ({ results: ++calls }))
  const alice = await network.agent('alice')
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })
  await sent.answer()
  const again = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} }, { id: sent.id })
  expect(again.id).toBe(sent.id)
  expect(await again.answer()).toMatchObject({ payload: { results: 1 } })
  expect(calls).toBe(1)
})

test('an intent outside the policy is refused, with a reason for the sender and a trace for the owner', async () => {
  const bob = await network.agent('bob')
  bob.setPolicy({ ...bob.policy(), accepted_intents: ['travel'] })
  bob.on('request', () => ({ results: 'never' }))
  const alice = await network.agent('alice')
  const sent = await alice.send(bob.amid, { intent: { category: 'creative' }, parameters: {} })
  const stages = await stagesOf(sent)
  expect(stages.at(-2)).toMatchObject({ stage: 'rejected', reject: { reason: 'intent_not_accepted' } })
  await expect(sent.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED' })
  expect(bob.decisions()[0]).toMatchObject({
    from: alice.amid,
    accepted: false,
    reason: 'intent_not_accepted',
  })
  expect(bob.decisions()[0]?.trace.at(-1)).toMatchObject({ rule: 'intent', passed: false })
})

test('a request about something else than its KNOCK does not reach the handler', async () => {
  const bob = await network.agent('bob')
  const seen: string[] = []
  bob.on('request', (request) => {
    seen.push(request.intent.category)
    return { results: null }
  })
  const alice = await network.agent('alice')
  const sent = await alice.send(
    bob.amid,
    { intent: FLIGHTS, parameters: {} },
    { sessionType: 'conversation' },
  )
  await sent.answer()
  const [session] = alice.sessions()
  const conversation = alice.conversation(session!.session_id)
  const refused = once(alice.events, 'progress')
  await conversation.send('request', { intent: { category: 'finance' }, parameters: {} })
  const messages: string[] = []
  for await (const message of conversation) {
    messages.push(message.type)
    if (message.type === 'error') {
      expect(message.payload).toMatchObject({ code: 'INTENT_MISMATCH' })
      break
    }
  }
  await refused
  expect(seen).toEqual(['travel'])
})

test('a conversation carries messages both ways in order until it is closed', async () => {
  const bob = await network.agent('bob')
  bob.on('request', (request) => ({ results: request.payload.parameters['n'] }))
  const alice = await network.agent('alice')
  const first = await alice.send(
    bob.amid,
    { intent: FLIGHTS, parameters: { n: 0 } },
    { sessionType: 'conversation' },
  )
  await first.answer()
  for (const n of [1, 2, 3]) {
    const sent = await alice.send(
      bob.amid,
      { intent: FLIGHTS, parameters: { n } },
      { sessionType: 'conversation' },
    )
    expect(await sent.answer()).toMatchObject({ payload: { results: n } })
  }
  expect(alice.sessions()).toHaveLength(1)
  const [session] = bob.sessions()
  const closed = once(alice.events, 'session')
  await bob.conversation(session!.session_id).close({ reason: 'completed', summary: 'done' })
  await closed
  expect(alice.sessions()[0]).toMatchObject({ state: 'closed', close_reason: 'completed' })
  const results: unknown[] = []
  for await (const message of alice.conversation(session!.session_id)) {
    if (message.type === 'response') results.push((message.payload as { results: unknown }).results)
  }
  expect(results).toEqual([0, 1, 2, 3])
})

test('an AMID nobody registered fails with a clear code, and one that cannot be is refused at once', async () => {
  const alice = await network.agent('alice')
  const nobody = amidFromBytes(new Uint8Array(20).fill(7))
  const sent = await alice.send(nobody, { intent: FLIGHTS, parameters: {} })
  await expect(sent.answer()).rejects.toMatchObject({ code: 'AGENT_NOT_FOUND' })
  for (const text of [`${alice.amid.slice(0, -1)}0`, `${alice.amid} `, '../keys', '', `1${alice.amid}`]) {
    const refused = alice.send(text, { intent: FLIGHTS, parameters: {} })
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_AMID' })
  }
})

test('blocking ends the session at once and refuses the next KNOCK', async () => {
  const bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  const alice = await network.agent('alice')
  const sent = await alice.send(
    bob.amid,
    { intent: FLIGHTS, parameters: {} },
    { sessionType: 'conversation' },
  )
  await sent.answer()
  const closed = once(alice.events, 'session')
  await bob.block(alice.amid)
  expect(bob.sessions()[0]).toMatchObject({ state: 'closed', close_reason: 'policy' })
  await closed
  const next = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })
  await expect(next.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED', message: /^blocked/ })
})

test('pause refuses new sessions while open ones go on; resume lets in again', async () => {
  const bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  const alice = await network.agent('alice')
  const talk = { sessionType: 'conversation' } as const
  await (await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} }, talk)).answer()
  await bob.pause()
  await (await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} }, talk)).answer()
  const single = { sessionType: 'request_response' } as const
  const refused = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} }, single)
  await expect(refused.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED', message: /^paused/ })
  await bob.resume()
  await (await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })).answer()
})

test('shutdown survives a restart, and only resume goes online again', async () => {
  const bob = await network.agent('bob')
  await bob.shutdown()
  expect(bob.status()).toMatchObject({
    breaker: 'shutdown',
    presence: 'offline',
    relay: { state: 'stopped' },
  })
  await expect(bob.send(bob.amid, { intent: FLIGHTS, parameters: {} })).rejects.toMatchObject({
    code: 'AGENT_STOPPED',
  })
  await bob.resume()
  await bob.ready()
  expect(bob.status().breaker).toBe('running')
})

test('a damaged audit log is set aside, the agent goes on, and the new log says so', async () => {
  const bob = await network.agent('bob')
  const logs = join(bob.home, 'logs')
  await bob.close()
  const [file] = readdirSync(logs).filter((name) => name.endsWith('.jsonl'))
  const path = join(logs, file!)
  writeFileSync(path, readFileSync(path, 'utf8').replace('"event":"key_rotated"', '"event":"key_forgotten"'))
  const again = await network.agent('bob')
  const events = [...readAuditLog(logs)].map((line) => line.event)
  expect(events).toContain('log_restarted')
  expect(readdirSync(logs).some((name) => name.startsWith('damaged-'))).toBe(true)
  expect(again.online).toBe(true)
})

test('who is on the allowlist gets the first request with the KNOCK', async () => {
  const bob = await network.agent('bob')
  const seen: unknown[] = []
  bob.on('request', (request) => {
    seen.push(request.payload.parameters['n'])
    return { results: 'ok' }
  })
  const alice = await network.agent('alice')
  alice.allow(bob.amid)
  const sent: string[] = []
  for (const n of [1, 2, 3]) {
    const message = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n } })
    expect(await message.answer()).toMatchObject({ payload: { results: 'ok' } })
  }
  for (const line of readAuditLog(join(alice.home, 'logs'))) {
    if (line.event === 'message_sent' && line['type'] === 'request')
      sent.push(`${String(line['seq'])}:${String(line['size_bytes'])}`)
  }
  expect(seen).toEqual([1, 2, 3])
  // The first one had no packet of its own.
  expect(sent[0]).toBe('1:0')
  expect(alice.sessions()).toHaveLength(1)
})

test('a request that came with a refused KNOCK is not looked at', async () => {
  const bob = await network.agent('bob')
  bob.setPolicy({ ...bob.policy(), accepted_intents: ['finance'] })
  bob.on('request', () => ({ results: 'never' }))
  const alice = await network.agent('alice')
  alice.allow(bob.amid)
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n: 1 } })
  await expect(sent.answer()).rejects.toMatchObject({ code: 'KNOCK_REJECTED' })
  expect(bob.status().inbox.waiting).toBe(0)
  expect(bob.sessions()).toEqual([])
})

test('capability negotiation says what is matched, whom to ask for the rest, and what both speak', async () => {
  const payBot = amidFromBytes(new Uint8Array(20).fill(9))
  const bob = await network.agent('bob', {
    capabilities: [FLIGHTS],
    negotiation: {
      capabilities: ['flight_search', 'booking'],
      schemas: ['agentmesh/travel/v1', 'agentmesh/travel/v2'],
      languages: ['he', 'en-GB'],
      payment_methods: ['stripe'],
      alternatives: { payment_processing: { amid: payBot, display_name: 'PayBot' } },
    },
  })
  const alice = await network.agent('alice')
  const asked = await alice.negotiate(bob.amid, FLIGHTS, {
    i_need: ['flight_search', 'payment_processing'],
    preferred_schemas: ['agentmesh/travel/v2'],
    languages: ['en'],
    payment_methods: ['agentmesh_credits', 'stripe'],
  })
  expect((await asked.answer()).payload).toMatchObject({
    matched: ['flight_search'],
    unavailable: ['payment_processing'],
    suggested_alternative: { payment_processing: { amid: payBot } },
    agreed_schema: 'agentmesh/travel/v2',
    agreed_language: 'en-GB',
    agreed_payment_method: 'stripe',
  })
})

test('a strict agent refuses a request that does not fit its standard schema; a lenient one warns', async () => {
  const strict = await network.agent('strict', { schemas: 'strict' })
  const lenient = await network.agent('lenient')
  const seen: string[] = []
  strict.on('request', () => {
    seen.push('strict')
    return { results: [] }
  })
  lenient.on('request', () => {
    seen.push('lenient')
    return { results: [] }
  })
  const alice = await network.agent('alice')
  const request = { intent: { ...FLIGHTS, action: 'search' }, parameters: { origin: 7 } }
  const refused = await (await alice.send(strict.amid, request)).answer()
  expect(refused).toMatchObject({ type: 'error', payload: { code: 'SCHEMA_MISMATCH' } })
  const taken = await (await alice.send(lenient.amid, request)).answer()
  expect(taken).toMatchObject({ type: 'response' })
  expect(seen).toEqual(['lenient'])
  expect(lenient.status().notices).toContainEqual(expect.objectContaining({ about: 'schema' }))
})

test('a fast sender waits for a slow reader, and everything arrives in order', async () => {
  const bob = await network.agent('bob')
  bob.setPolicy({ ...bob.policy(), rate_limit: { knocks_per_minute: 30, messages_per_minute: 100_000 } })
  bob.on('request', () => ({ results: 'go on' }))
  const alice = await network.agent('alice')
  const opened = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} }, { sessionType: 'stream' })
  await opened.answer()
  const [session] = alice.sessions()
  const stream = alice.conversation(session!.session_id)
  const total = 200
  for (let n = 0; n < total; n++) await stream.send('status', { status: 'processing', message: String(n) })
  expect(alice.status().outbox.queued).toBeGreaterThan(0)
  const read: string[] = []
  for await (const message of bob.conversation(session!.session_id)) {
    if (message.direction === 'in' && message.type === 'status') {
      read.push((message.payload as { message: string }).message)
    }
    if (read.length === total) break
  }
  expect(read).toEqual(Array.from({ length: total }, (_, n) => String(n)))
})

test('forgetting a peer deletes what was held about it', async () => {
  const bob = await network.agent('bob')
  bob.on('request', () => ({ results: 1 }))
  const alice = await network.agent('alice')
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })
  await sent.answer()
  await alice.forget(bob.amid)
  expect(alice.sessions()).toEqual([])
  await expect(sent.answer()).rejects.toMatchObject({ code: 'MESSAGE_UNKNOWN' })
  const again = await alice.send(bob.amid, { intent: FLIGHTS, parameters: {} })
  expect(await again.answer()).toMatchObject({ payload: { results: 1 } })
})
