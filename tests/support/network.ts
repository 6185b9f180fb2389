/** A registry and a relay of this process, and embedded agents at them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRegistry, type RunningRegistry } from '@agentmesh/registry'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { Agent, type AgentOptions, type ProgressEvent, type SentMessage } from '@agentmesh/sdk'

export class TestNetwork {
  readonly folder = mkdtempSync(join(tmpdir(), 'agentmesh-'))
  readonly #agents = new Set<Agent>()
  relay!: RunningRelay
  registry!: RunningRegistry

  /** @param now the servers' clock, milliseconds since the epoch */
  static async start(now: () => number = Date.now): Promise<TestNetwork> {
    const network = new TestNetwork()
    network.relay = await startRelay({ dataPath: join(network.folder, 'relay.db'), now })
    network.registry = await startRegistry({ dataPath: join(network.folder, 'registry.db'), now })
    return network
  }

  /** Opens an agent of that name, the same one when it was open before, and waits until peers can reach it. */
  async agent(
    name: string,
    config: AgentOptions['config'] = {},
    options: Omit<AgentOptions, 'home' | 'config'> = {},
  ): Promise<Agent> {
    const agent = await Agent.open({
      ...options,
      home: join(this.folder, name),
      config: { relays: [this.relay.url], registry: this.registry.url, display_name: name, ...config },
    })
    this.#agents.add(agent)
    await agent.ready()
    return agent
  }

  async close(): Promise<void> {
    await Promise.all([...this.#agents].map((agent) => agent.close()))
    await Promise.all([this.relay.close(), this.registry.close()])
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Every stage a message went through, once it is answered or failed. */
export async function stagesOf(sent: SentMessage): Promise<ProgressEvent[]> {
  const events: ProgressEvent[] = []
  for await (const event of sent.progress()) events.push(event)
  return events
}

export const FLIGHTS = { category: 'travel', subcategory: 'flights' } as const
