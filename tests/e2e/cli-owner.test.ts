/** What owners do beside asking and answering: negotiate, presence, notices, exports, forgetting; and what the log says of it. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errorCode, Place, run, start, type CliAgent } from './cli-harness.ts'

const place = new Place()
let bob: CliAgent
let alice: CliAgent

interface Status {
  pid: number
  presence: string
  notices: { at: string; about: string; text: string }[]
}
interface Line {
  event: string
  [field: string]: unknown
}

beforeAll(async () => {
  await place.open()
  bob = await place.agent('bob', '--capability', 'travel/flights')
  const config = join(bob.home, 'config.json')
  const written = JSON.parse(readFileSync(config, 'utf8')) as object
  const negotiation = {
    capabilities: ['travel/flights', 'seat_selection'],
    schemas: ['agentmesh/travel/flight-search/v1'],
    languages: ['de', 'en'],
    payment_methods: ['invoice'],
  }
  writeFileSync(config, JSON.stringify({ ...written, negotiation }))
  await bob.up()
  alice = await (await place.agent('alice')).up()
})
afterAll(() => place.close())

async function audit(agent: CliAgent, event: string): Promise<Line[]> {
  const { stdout } = await agent.run('audit', '--event', event, '--json')
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line)
}

/** A request that bob answers; resolves with its session. */
async function talk(): Promise<string> {
  const listener = bob.start('listen', '--exec', 'echo 1', '--json')
  await listener.line((line) => line['event'] === 'ready')
  const { code } = await alice.run('send', bob.amid, '--intent', 'travel/flights', '--wait', '60', '--json')
  expect(code).toBe(0)
  await listener.stop()
  const [newest] = await alice.value<{ session_id: string }[]>('sessions')
  return newest!.session_id
}

describe('negotiate', () => {
  const need = ['--need', 'travel/flights,meals']
  const asking = (...more: string[]) => [
    'negotiate',
    bob.amid,
    '--intent',
    'travel/flights',
    ...need,
    ...more,
  ]

  test('says what is matched, what is not, and what both can use', async () => {
    const options = ['--schema', 'agentmesh/travel/v1', '--language', 'fr,en-GB', '--payment', 'card,invoice']
    const { code, stdout } = await alice.run(...asking(...options, '--wait', '60', '--json'))
    expect(code).toBe(0)
    const stages = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { stage: string; answer?: object })
    expect(stages.at(-1)).toMatchObject({
      stage: 'answered',
      answer: {
        type: 'capability_negotiation_response',
        payload: {
          matched: ['travel/flights'],
          unavailable: ['meals'],
          agreed_schema: 'agentmesh/travel/flight-search/v1',
          agreed_language: 'en-GB',
          agreed_payment_method: 'invoice',
        },
      },
    })
  })

  test('for people: stages with times on stderr, the offer on stdout', async () => {
    const { code, stdout, stderr } = await alice.run(...asking('--wait', '60'))
    expect(code).toBe(0)
    expect(stdout).toMatch(/^matched +travel\/flights$/m)
    expect(stdout).toMatch(/^unavailable +meals$/m)
    expect(stderr).toMatch(/^= \d{4}-\d\d-\d\dT[\d:.]+Z answered$/m)
  })

  test('without --wait the id is all there is', async () => {
    expect(Object.keys(await alice.value(...asking()))).toEqual(['id'])
  })
})

test('presence is told to the owner and to others; in dnd a KNOCK waits until it is over', async () => {
  expect(await bob.value('presence', 'dnd')).toEqual({ presence: 'dnd' })
  expect(await bob.value<Status>('status')).toMatchObject({ presence: 'dnd' })
  const carol = await (await place.agent('carol')).up()
  const found = await carol.value('search', 'travel/flights')
  expect(found).toMatchObject({ agents: [{ amid: bob.amid, presence: 'dnd' }] })
  const asking = carol.start('send', bob.amid, '--intent', 'travel/flights', '--wait', '60', '--json')
  await asking.line(({ stage }) => stage === 'stored')
  expect((await bob.run('why', carol.amid)).code).toBe(3)
  await bob.value('presence', 'online')
  await asking.line(({ stage }) => stage === 'accepted')
  expect(await bob.value<Status>('status')).toMatchObject({ presence: 'online' })
  await asking.stop()
})

test('a policy edited by hand is logged; one with a mistake is told in status and log, and changes nothing', async () => {
  const file = join(bob.home, 'policy.json')
  const good = readFileSync(file, 'utf8')
  const edited = { ...(JSON.parse(good) as object), min_reputation: 0.1 }
  writeFileSync(file, JSON.stringify(edited, null, 2))
  expect(await bob.value('policy', 'show')).toMatchObject({ min_reputation: 0.1 })
  writeFileSync(file, '{\n  "blocklist": "nobody"\n}')
  expect(await bob.value('policy', 'show')).toMatchObject({ min_reputation: 0.1 })
  const { notices } = await bob.value<Status>('status')
  expect(notices.at(-1)).toMatchObject({ about: 'policy', text: expect.stringMatching(/^line 2, blocklist/) })
  const words = await bob.run('status')
  expect(words.stdout).toMatch(/notices since it started\n(.*\n)*.* policy: line 2, blocklist/)
  writeFileSync(file, good)
  expect(await bob.value('policy', 'show')).toMatchObject({ min_reputation: 0 })
  const changes = (await audit(bob, 'policy_changed')).filter(({ by }) => by === 'file')
  expect(changes.map(({ fields }) => fields)).toEqual([['min_reputation'], ['min_reputation']])
  expect(await audit(bob, 'policy_refused')).toMatchObject([{ problem: notices.at(-1)!.text }])
})

describe('session export', () => {
  test('is logged, and holds keys only when they are asked for', async () => {
    const session = await talk()
    const without = await alice.value<{ file: string }>('session', 'export', session)
    const plain = JSON.parse(readFileSync(without.file, 'utf8')) as Record<string, unknown>
    expect(plain).toMatchObject({ session_id: session, peer: bob.amid })
    expect(plain).not.toHaveProperty('session_state')

    const file = join(place.folder, 'with-keys.json')
    const result = await alice.value('session', 'export', session, '--keys', '--output', file)
    expect(result).toMatchObject({ file, keys: true })
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const { session_state, messages } = JSON.parse(readFileSync(file, 'utf8')) as {
      session_state: string
      messages: { type: string; receipts?: Record<string, string> }[]
    }
    // What is in it is this session, ratchet included.
    const bytes = Buffer.from(session_state, 'base64')
    const fieldsLength = bytes.readUInt32BE(1)
    expect(JSON.parse(bytes.subarray(5, 5 + fieldsLength).toString())).toMatchObject({
      id: session,
      peer: bob.amid,
    })
    expect(bytes.length).toBeGreaterThan(5 + fieldsLength + 32)
    const request = messages.find(({ type }) => type === 'request')
    for (const receipt of ['received', 'read', 'answered']) {
      expect(Date.parse(request?.receipts?.[receipt] ?? '')).not.toBeNaN()
    }
    expect(await audit(alice, 'session_exported')).toMatchObject([
      { session_id: session, keys: false, by: 'cli' },
      { session_id: session, keys: true, by: 'cli' },
    ])
  })

  test('shows people when each receipt came', async () => {
    const session = await talk()
    const { stdout } = await alice.run('session', 'show', session)
    expect(stdout).toMatch(/received \d{4}-[^,]+Z, read \d{4}-[^,]+Z, answered \d{4}-/)
  })
})

describe('forget', () => {
  test('deletes what is held about a peer, and both can start again', async () => {
    const session = await talk()
    expect(await alice.value('forget', bob.amid, '--yes')).toEqual({ amid: bob.amid, forgotten: true })
    expect(await alice.value<object[]>('sessions')).toEqual([])
    const gone = await alice.run('session', 'show', session, '--json')
    expect([gone.code, errorCode(gone)]).toEqual([3, 'SESSION_UNKNOWN'])
    expect(await audit(alice, 'breaker')).toMatchObject([{ action: 'forget', peer: bob.amid, by: 'cli' }])

    expect(await bob.value('forget', alice.amid, '--yes')).toMatchObject({ forgotten: true })
    expect((await bob.run('why', alice.amid)).code).toBe(3)
    expect(await talk()).not.toBe(session)
    expect(await bob.value('why', alice.amid)).toMatchObject({ decisions: [{ from: alice.amid }] })
  })

  test('needs the daemon', async () => {
    const home = join(place.folder, 'nobody')
    expect((await run(['init', '--home', home])).code).toBe(0)
    expect((await run(['forget', bob.amid, '--yes', '--home', home])).code).toBe(6)
    expect((await run(['presence', 'away', '--home', home])).code).toBe(6)
  })
})

test('the log tells when the agent started, why it stopped, and that its relay came and went', async () => {
  const dave = await (await place.agent('dave')).up()
  const { pid } = await dave.value<Status>('status')
  await dave.value('down')
  const daemon = start(['up', '--foreground', '--json', '--home', dave.home])
  await daemon.line((line) => line['event'] === 'online')
  await daemon.stop('SIGTERM')
  expect(await audit(dave, 'agent_started')).toMatchObject([{ pid }, { pid: daemon.child.pid }])
  expect((await audit(dave, 'agent_stopped')).map(({ reason }) => reason)).toEqual(['down', 'SIGTERM'])
  expect((await audit(dave, 'relay_state')).map(({ state }) => state)).toEqual([
    'connected',
    'closed',
    'connected',
    'closed',
  ])
  expect(await audit(dave, 'prekeys_added')).toMatchObject([{ one_time: 100, one_time_kem: 100 }])
  expect(await dave.value('audit', 'verify')).toMatchObject({ ok: true })
})

test('a damaged state file is told in status, and where it lies', async () => {
  const erin = await (await place.agent('erin')).up()
  await erin.value('down')
  writeFileSync(join(erin.home, 'state.db'), 'not a database at all')
  await erin.up()
  const { notices } = await erin.value<Status>('status')
  expect(notices.filter(({ about }) => about === 'recovery')).toMatchObject([
    { about: 'recovery', text: expect.stringMatching(/^state\.db: .*damaged-\d+/) },
  ])
})
