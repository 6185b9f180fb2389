/** Two agents whose relay is behind a proxy that spoils frames: what the applications see is as if it were not there. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRegistry, type RunningRegistry } from '@agentmesh/registry'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { Agent, defaultPolicy, type SentMessage } from '@agentmesh/sdk'
import { afterEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { type Fault, FrameProxy } from './frame-proxy.ts'

const REQUESTS = 200
const SEED = Number(process.env['FAULTS_SEED'] ?? 20_261_121)
const unlimited = { perSecond: 1e6, burst: 1e6 }

let folder: string
let relay: RunningRelay
let registry: RunningRegistry
let proxy: FrameProxy
const agents: Agent[] = []

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.close()))
  await Promise.all([proxy.close(), relay.close(), registry.close()])
  rmSync(folder, { recursive: true })
})

async function start(oneIn?: Partial<Record<Fault, number>>): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-'))
  registry = await startRegistry({ dataPath: join(folder, 'registry.db') })
  proxy = await FrameProxy.start(SEED, () => relay.port, oneIn)
  relay = await startRelay({
    dataPath: join(folder, 'relay.db'),
    names: [proxy.authority],
    // Every cut is a CONNECT from one address.
    limits: { connects: unlimited, signatureChecksPerIp: unlimited },
  })
}

interface Party {
  readonly agent: Agent
  /** Numbers the application was handed, by session. */
  readonly handed: Map<string, number[]>
}

async function party(name: string): Promise<Party> {
  const agent = await Agent.open({
    home: join(folder, name),
    config: { relays: [`ws://${proxy.authority}`], registry: registry.url, display_name: name },
  })
  agents.push(agent)
  const rate_limit = { knocks_per_minute: 1_000_000, messages_per_minute: 1_000_000 }
  agent.setPolicy({ ...defaultPolicy(), rate_limit })
  const handed = new Map<string, number[]>()
  agent.on('request', ({ session_id, payload }) => {
    const n = Number(payload.parameters['n'])
    handed.set(session_id, [...(handed.get(session_id) ?? []), n])
    return { results: n }
  })
  await agent.ready()
  return { agent, handed }
}

/** Asks `REQUESTS` numbers, a window of them outstanding; resolves with the answers in the order of the numbers. */
async function askAll(from: Agent, to: Agent): Promise<unknown[]> {
  const answers: Promise<unknown>[] = []
  const open = new Set<Promise<unknown>>()
  for (let n = 0; n < REQUESTS; n++) {
    const sent = await from.send(to.amid, { intent: FLIGHTS, parameters: { n } }, { sessionType: 'stream' })
    const answer = resultsOf(sent)
    answers.push(answer)
    open.add(answer)
    void answer.finally(() => open.delete(answer))
    if (open.size >= 16) await Promise.race(open)
  }
  return Promise.all(answers)
}

async function resultsOf(sent: SentMessage): Promise<unknown> {
  const answer = await sent.answer()
  return answer.type === 'response' ? answer.payload.results : answer
}

function expectOnceInOrder({ handed }: Party): void {
  const all = [...handed.values()].flat()
  expect(all.toSorted((left, right) => left - right)).toEqual([...Array(REQUESTS).keys()])
  for (const numbers of handed.values()) {
    expect(numbers).toEqual(numbers.toSorted((left, right) => left - right))
  }
}

test(
  `${REQUESTS} requests each way through dropped, delayed, doubled, reordered and cut frames arrive once, in order`,
  { timeout: 300_000 },
  async () => {
    console.log(`seed ${SEED} (FAULTS_SEED=${SEED} replays it)`)
    await start()
    const [alice, bob] = await Promise.all([party('alice'), party('bob')])
    const answers = await Promise.all([askAll(alice.agent, bob.agent), askAll(bob.agent, alice.agent)])
    console.log(JSON.stringify(proxy.counts))
    for (const results of answers) expect(results).toEqual([...Array(REQUESTS).keys()])
    expectOnceInOrder(alice)
    expectOnceInOrder(bob)
    const { frames: _, connections: __, ...faults } = proxy.counts
    for (const [fault, count] of Object.entries(faults)) expect([fault, count > 0]).toEqual([fault, true])
  },
)
