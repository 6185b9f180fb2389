/** Lost, rolled-back and damaged state: noticed, reported, repaired by a new KNOCK, and nothing said twice. */
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readAuditLog, type Agent } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork
let alice: Agent
let bob: Agent
let seen: unknown[]

beforeEach(async () => {
  network = await TestNetwork.start()
  seen = []
  alice = await network.agent('alice')
  bob = await openBob()
})
afterEach(() => network.close())

async function openBob(): Promise<Agent> {
  const agent = await network.agent('bob')
  agent.on('request', (request) => {
    seen.push(request.payload.parameters['n'])
    return { results: request.payload.parameters['n'] }
  })
  return agent
}

async function ask(n: number): Promise<unknown> {
  const sent = await alice.send(bob.amid, { intent: FLIGHTS, parameters: { n } })
  const answer = await sent.answer({ timeoutSeconds: 40 })
  return answer.type === 'response' ? answer.payload.results : answer
}

function keep(agent: Agent, name: string): string {
  const copy = join(network.folder, `${name}.copy`)
  cpSync(agent.home, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') })
  return copy
}

function putBack(agent: Agent, copy: string): void {
  rmSync(agent.home, { recursive: true })
  cpSync(copy, agent.home, { recursive: true })
}

function events(agent: Agent): string[] {
  return [...readAuditLog(join(agent.home, 'logs'))].map((line) => line.event)
}

test('the receiver comes back with an old copy of its home: the sender knocks again by itself', async () => {
  expect(await ask(1)).toBe(1)
  await bob.close()
  const copy = keep(bob, 'bob')
  bob = await openBob()
  for (const n of [2, 3, 4]) expect(await ask(n)).toBe(n)
  await bob.close()
  putBack(bob, copy)
  bob = await openBob()
  for (const n of [5, 6]) expect(await ask(n)).toBe(n)
  expect(seen).toEqual([1, 2, 3, 4, 5, 6])
  expect(events(alice)).toContain('session_reset')
  expect(alice.status().notices.some((notice) => notice.about === 'recovery')).toBe(true)
})

test('the sender comes back with an old copy of its home: nothing of it is used again', async () => {
  expect(await ask(1)).toBe(1)
  await alice.close()
  const copy = keep(alice, 'alice')
  alice = await network.agent('alice')
  for (const n of [2, 3, 4]) expect(await ask(n)).toBe(n)
  await alice.close()
  putBack(alice, copy)
  alice = await network.agent('alice')
  for (const n of [5, 6]) expect(await ask(n)).toBe(n)
  expect(seen).toEqual([1, 2, 3, 4, 5, 6])
  expect(events(alice)).toContain('state_recovered')
  expect(events(bob)).not.toContain('session_reset')
})

test('a receiver that lost its state gets new prekeys out, and old KNOCKs are made anew', async () => {
  expect(await ask(1)).toBe(1)
  await bob.close()
  for (const suffix of ['', '-wal', '-shm']) rmSync(join(bob.home, `state.db${suffix}`), { force: true })
  bob = await openBob()
  expect(await ask(2)).toBe(2)
  expect(seen).toEqual([1, 2])
})

test('a truncated state file is set aside, and the agent goes on', async () => {
  expect(await ask(1)).toBe(1)
  await bob.close()
  const path = join(bob.home, 'state.db')
  truncateSync(path, Math.floor(readFileSync(path).length / 2))
  bob = await openBob()
  expect(await ask(2)).toBe(2)
  expect(events(bob)).toContain('state_recovered')
})

test('a flipped bit in a sealed row costs that row and nothing else', async () => {
  expect(await ask(1)).toBe(1)
  await bob.close()
  const path = join(bob.home, 'state.db')
  const bytes = readFileSync(path)
  // Sealed rows are most of the file; one byte in each of many pages hits some of them.
  for (let offset = 4096 + 3000; offset < bytes.length; offset += 4096) bytes[offset] = bytes[offset]! ^ 1
  writeFileSync(path, bytes)
  bob = await openBob()
  expect(await ask(2)).toBe(2)
  expect(events(bob)).toContain('state_recovered')
})
