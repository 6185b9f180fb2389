/** One hostile machine at both relays of one service; honest agents beside it, whose messages come through. Real processes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Amid } from '@agentmesh/sdk/wire'
import { natsMissing } from '../../apps/relay/src/test-support-nats.ts'
import { hostile } from '../support/hostile-machine.ts'
import { HonestAgents } from '../support/honest-agents.ts'
import { runServer, type RunningProgram } from '../support/processes.ts'
import { RelayService } from '../support/relay-service.ts'
import { connected, newIdentity, type RawAgent } from './relay-harness.ts'

describe.skipIf(natsMissing)('two relays of one service (needs nats-server)', () => {
  let folder: string
  let service: RelayService
  let registry: RunningProgram
  let honest: HonestAgents

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agentmesh-bounded-'))
    ;[service, registry] = await Promise.all([
      RelayService.start(2),
      runServer('registry', join(folder, 'registry.db')),
    ])
    honest = await HonestAgents.start([service.url], registry.url)
  })
  afterAll(async () => {
    await honest?.close()
    await Promise.all([service?.close(), registry?.program.end('SIGKILL')])
    rmSync(folder, { recursive: true })
  })

  const url = (index: number): string => service.relays[index % 2]!.url

  async function stored(agent: RawAgent, to: Amid, count: number): Promise<number> {
    const ids = Array.from({ length: count }, () => agent.send(to, 'x'))
    const outcomes = await Promise.all(ids.map(async (id) => agent.outcome(id)))
    return outcomes.filter((outcome) => outcome === 'stored').length
  }

  test('a mailbox flooded through both holds a share of one address, and a friend still leaves his message', async () => {
    const machine = hostile()
    const victim = newIdentity()
    let total = 0
    for (let n = 0; n < 10; n++) {
      const agent = await machine.agent(url(n))
      total += await stored(agent!, victim.amid, 10)
    }
    expect(total).toBe(50)
    const friend = await connected(url(0))
    expect(await stored(friend, victim.amid, 2)).toBe(2)
    // Fetched at one relay, there is room through both.
    const back = await connected(url(1), { identity: victim })
    await back.receiveTexts(52)
    await back.close()
    for (const index of [0, 1]) {
      const again = await machine.agent(url(index))
      await expect.poll(() => stored(again!, victim.amid, 1), { timeout: 20_000 }).toBe(1)
    }
    await friend.close()
    await honest.newcomer()
  })

  test('an agent that jumps from relay to relay is let in only so often, and disturbs nobody', async () => {
    const machine = hostile()
    const agents = async () =>
      (await service.relays[0]!.metric('agentmesh_relay_agents')) +
      (await service.relays[1]!.metric('agentmesh_relay_agents'))
    const before = await agents()
    const identity = newIdentity()
    let accepted = 0
    for (let n = 0; n < 100; n++) {
      if ((await machine.agent(url(n), identity)) !== undefined) accepted += 1
      if (n % 50 === 0) await honest.oldFriends()
    }
    expect(accepted).toBeGreaterThanOrEqual(60)
    expect(accepted).toBeLessThan(100)
    await honest.newcomer()
    machine.close()
    // The newcomer has stayed, and nothing else.
    await expect.poll(agents, { timeout: 20_000 }).toBe(before + 1)
  })

  test('who writes to everybody to see who is there comes to the end of that at both', async () => {
    const machine = hostile()
    const outcomes = new Map<string, number>()
    for (let n = 0; n < 6; n++) {
      const agent = await machine.agent(url(n))
      const ids = Array.from({ length: 400 }, () => agent!.send(newIdentity().amid, 'x', 'message'))
      for (const outcome of await Promise.all(ids.map(async (id) => agent!.outcome(id)))) {
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      }
    }
    expect(outcomes.get('RATE_LIMITED')).toBeGreaterThan(0)
    expect(outcomes.get('stored') ?? 0).toBeLessThan(2_300)
    for (const relay of service.relays) expect(await relay.readiness()).toBe('200 ready')
    await honest.newcomer()
  })
})
