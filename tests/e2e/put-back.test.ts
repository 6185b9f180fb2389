/** Copies of a home put back: nothing is handed over twice while relay and registry are honest. */
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { readAuditLog, type Agent } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, TestNetwork } from '../support/network.ts'
import { until } from '../support/until.ts'

let network: TestNetwork
let alice: Agent
let bob: Agent
/** What was handed over, and whether it was said to be from before the start. */
let seen: [unknown, boolean][]
let answering: Promise<void>

beforeEach(async () => {
  network = await TestNetwork.start()
  seen = []
  answering = Promise.resolve()
  alice = await network.agent('alice')
  bob = await openBob()
})
afterEach(() => network.close())

async function openBob(): Promise<Agent> {
  const agent = await network.agent('bob')
  agent.on('request', async (request) => {
    const { n } = request.payload.parameters
    seen.push([n, request.sent_before_start])
    await answering
    return { results: n }
  })
  return agent
}

async function ask(n: number): Promise<unknown> {
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n } })
  const answer = await sent.answer({ timeoutSeconds: 60 })
  return answer.type === 'response' ? answer.payload.results : answer
}

let copies = 0
function keep(agent: Agent): string {
  const copy = join(network.folder, `copy-${copies++}`)
  cpSync(agent.home, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') })
  return copy
}
function putBack(agent: Agent, copy: string): void {
  rmSync(agent.home, { recursive: true })
  cpSync(copy, agent.home, { recursive: true })
}
const wasRecovered = (agent: Agent) =>
  [...readAuditLog(join(agent.home, 'logs'))].some(
    (line) => line.event === 'state_recovered' && line.what === 'home',
  )

test('a request that a copy of the home, made in mid-run, still owes is not handed over again', async () => {
  expect(await ask(0)).toBe(0)
  let finish = (): void => {}
  answering = new Promise((resolve) => (finish = resolve))
  const asked = ask(1)
  await until(
    'the request',
    async () => seen.length,
    (count) => count === 2,
  )
  const copy = keep(bob)
  finish()
  expect(await asked).toBe(1)
  expect(await ask(2)).toBe(2)
  await bob.close()
  putBack(bob, copy)
  bob = await openBob()
  expect(await ask(3)).toBe(3)
  expect(seen.map(([n]) => n)).toEqual([0, 1, 2, 3])
  expect(wasRecovered(bob)).toBe(true)
  expect(bob.status().notices.some(({ text }) => text.includes('The home was put back'))).toBe(true)
})

test('homes of both sides put back, as by a snapshot of two machines, go on with new sessions', async () => {
  expect(await ask(1)).toBe(1)
  await Promise.all([alice.close(), bob.close()])
  const [aliceCopy, bobCopy] = [keep(alice), keep(bob)]
  alice = await network.agent('alice')
  bob = await openBob()
  for (const n of [2, 3]) expect(await ask(n)).toBe(n)
  await Promise.all([alice.close(), bob.close()])
  putBack(alice, aliceCopy)
  putBack(bob, bobCopy)
  alice = await network.agent('alice')
  bob = await openBob()
  for (const n of [4, 5]) expect(await ask(n)).toBe(n)
  expect(seen.map(([n]) => n)).toEqual([1, 2, 3, 4, 5])
  expect([wasRecovered(alice), wasRecovered(bob)]).toEqual([true, true])
})

test('what was signed before the start says so, and nothing else does', async () => {
  expect(await ask(1)).toBe(1)
  await bob.close()
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n: 2 } })
  bob = await openBob()
  await sent.answer({ timeoutSeconds: 60 })
  expect(await ask(3)).toBe(3)
  expect(seen).toEqual([
    [1, false],
    [2, true],
    [3, false],
  ])
})
