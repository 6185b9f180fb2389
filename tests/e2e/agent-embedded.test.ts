/** Two embedded agents, a relay and a registry in one process: the main job at its smallest. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRegistry } from '@agentmesh/registry'
import { startRelay } from '@agentmesh/relay'
import { Agent, type AgentOptions } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'

let folder: string
let relay: Awaited<ReturnType<typeof startRelay>>
let registry: Awaited<ReturnType<typeof startRegistry>>
const agents: Agent[] = []

async function openAgent(name: string, config: AgentOptions['config'] = {}): Promise<Agent> {
  const agent = await Agent.open({
    home: join(folder, name),
    config: { relay: `${relay.url}/v1/connect`, registry: registry.url, display_name: name, ...config },
  })
  agents.push(agent)
  await agent.ready()
  return agent
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-'))
  relay = await startRelay({ dataPath: join(folder, 'relay.db') })
  registry = await startRegistry({ dataPath: join(folder, 'registry.db') })
})

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.close()))
  await Promise.all([relay.close(), registry.close()])
  rmSync(folder, { recursive: true })
})

test('a request finds its peer, passes policy, and is answered', async () => {
  const bob = await openAgent('bob', { capabilities: [{ category: 'travel', subcategory: 'flights' }] })
  bob.handle(async (request, context) => {
    await context.status({ status: 'processing', progress: 0.5 })
    return { results: { echo: request.payload.parameters } }
  })
  const alice = await openAgent('alice')
  const sent = await alice.send(bob.amid, {
    intent: { category: 'travel', subcategory: 'flights' },
    parameters: { origin: 'TLV' },
  })
  const stages: string[] = []
  for await (const event of sent.progress()) stages.push(event.stage)
  const answer = await sent.answer()
  expect(answer.payload).toMatchObject({ status: 'success', results: { echo: { origin: 'TLV' } } })
  expect(stages.filter((stage) => stage !== 'sent' && stage !== 'stored')).toEqual([
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
