/** Honest agents beside an attack: what they say to each other has to come through. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent } from '@agentmesh/sdk'
import { FLIGHTS } from './network.ts'

const TIMEOUT_SECONDS = 120

export class HonestAgents {
  readonly #folder = mkdtempSync(join(tmpdir(), 'agentmesh-honest-'))
  readonly #agents: Agent[] = []
  readonly #servers: { readonly relays: string[]; readonly registry: string }
  #asked = 0
  bob!: Agent
  #alice!: Agent

  private constructor(relays: string[], registry: string) {
    this.#servers = { relays, registry }
  }

  /** Bob answers, and Alice has a session with him. */
  static async start(relays: string[], registry: string): Promise<HonestAgents> {
    const all = new HonestAgents(relays, registry)
    all.bob = await all.#open('bob')
    all.bob.on('request', ({ payload }) => ({ results: payload.parameters['n'] }))
    all.#alice = await all.#open('alice')
    await all.oldFriends()
    return all
  }

  async #open(name: string): Promise<Agent> {
    const home = join(this.#folder, name)
    const agent = await Agent.open({ home, config: { ...this.#servers, display_name: name } })
    this.#agents.push(agent)
    await agent.ready(TIMEOUT_SECONDS)
    return agent
  }

  async #ask(from: Agent): Promise<void> {
    const n = ++this.#asked
    const sent = await from.send(this.bob.amid, { intent: FLIGHTS, parameters: { n } })
    const answer = await sent.answer({ timeoutSeconds: TIMEOUT_SECONDS })
    const { results } = answer.payload as { results?: unknown }
    if (results !== n) throw new Error(`asked ${n}, answered ${JSON.stringify(answer)}`)
  }

  /** Who has a session asks and is answered. */
  async oldFriends(): Promise<void> {
    await this.#ask(this.#alice)
  }

  /** Somebody comes who was never here: registers, uploads prekeys, looks Bob up, takes his keys, knocks, asks, is answered. */
  async newcomer(): Promise<void> {
    await this.#ask(await this.#open(`newcomer-${this.#agents.length}`))
  }

  async close(): Promise<void> {
    await Promise.all(this.#agents.map(async (agent) => agent.close()))
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
