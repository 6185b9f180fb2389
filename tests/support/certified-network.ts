/** A relay and a registry that certifies, in a folder of their own, and agents that trust it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startRelay, type RunningRelay } from '@agentmesh/relay'
import { Agent, type Amid, type Config, type DecisionRecord, type JsonValue } from '@agentmesh/sdk'
import { CertifiedRegistry } from './certified-registry.ts'
import { FLIGHTS } from './network.ts'

export class CertifiedNetwork {
  readonly folder: string
  readonly relay: RunningRelay
  readonly registry: CertifiedRegistry
  readonly #now: () => number
  readonly #closing: (() => Promise<unknown>)[] = []

  private constructor(folder: string, relay: RunningRelay, registry: CertifiedRegistry, now: () => number) {
    this.folder = folder
    this.relay = relay
    this.registry = registry
    this.#now = now
  }

  /**
   * @param now everybody's clock, milliseconds since the epoch
   * @param limits of the registry
   */
  static async start(now: () => number = Date.now, limits = {}): Promise<CertifiedNetwork> {
    const folder = mkdtempSync(join(tmpdir(), 'agentmesh-certified-'))
    const relay = await startRelay({ dataPath: join(folder, 'relay.db'), now })
    const registry = await CertifiedRegistry.start(folder, 'home', now, limits)
    return new CertifiedNetwork(folder, relay, registry, now)
  }

  home(name: string): string {
    return join(this.folder, name)
  }

  config(name: string): Partial<Config> {
    return { relays: [this.relay.url], registry: this.registry.registry.url, display_name: name }
  }

  /** An agent that peers can reach. */
  async agent(name: string): Promise<Agent> {
    const agent = await Agent.open({ home: this.home(name), config: this.config(name), now: this.#now })
    this.closeFirst(() => agent.close())
    await agent.ready()
    return agent
  }

  /** What has to end before the servers do; the last one given ends first. */
  closeFirst(close: () => Promise<unknown>): void {
    this.#closing.push(close)
  }

  async close(): Promise<void> {
    for (const close of this.#closing.toReversed()) await close()
    await this.registry.close()
    await this.relay.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** What an agent finds of the certificates that another one knocks with. */
export async function knock(
  from: Agent,
  to: Amid,
  decisions: () => Promise<readonly DecisionRecord[]> | readonly DecisionRecord[],
): Promise<Record<string, JsonValue>> {
  for (const { session_id, state } of from.sessions())
    if (state === 'open') await from.killSession(session_id)
  const sent = await from.send(to, { intent: FLIGHTS, parameters: {} })
  for await (const { stage } of sent.progress()) if (stage === 'accepted' || stage === 'rejected') break
  const [decision] = await decisions()
  return { ...decision?.trace.find(({ rule }) => rule === 'certificate')?.inputs }
}

/** False while connections to a registry that was restarted are found broken. */
export async function refreshed(refresh: () => Promise<void>): Promise<boolean> {
  return refresh().then(
    () => true,
    () => false,
  )
}
