/**
 * The registries an agent talks to: its own, and those its owner trusts, where peers of other homes are found (DESIGN §8).
 *
 *   own registry --(no such agent)--> each trusted one, in the owner's order
 *        |                                   |
 *        +------------- record --------------+--(it names another home that is trusted)--> that one's record and keys
 *
 * A record may name any address as its home. Only addresses the owner trusts are dialled, or a stranger's record could
 * have us call whatever we can reach.
 */
import type { RegistryClient } from '../../discovery/index.ts'
import { AgentMeshError, isAgentMeshError, type AgentRecord, type Amid } from '../../wire/index.ts'

export interface Found {
  readonly record: AgentRecord
  /** The peer's home registry, as far as it can be reached: where its prekeys are. */
  readonly registry: RegistryClient
  /** Of that registry. */
  readonly url: string
}

/** Told when a registry's answer does not hold. */
export type AnswerRefused = (url: string, error: AgentMeshError) => void

export class Registries {
  readonly #home: string
  readonly #clients = new Map<string, RegistryClient>()
  readonly #connect: (url: string, refused: (error: AgentMeshError) => void) => RegistryClient
  readonly #trusted: () => readonly string[]
  readonly refused: AnswerRefused

  /**
   * @param home URL of the agent's own registry
   * @param trusted URLs of those the owner trusts, in the owner's order
   * @param refused an answer of one of them that does not hold
   */
  constructor(
    home: string,
    connect: (url: string, refused: (error: AgentMeshError) => void) => RegistryClient,
    trusted: () => readonly string[],
    refused: AnswerRefused = () => {},
  ) {
    this.refused = refused
    this.#home = home
    this.#connect = connect
    this.#trusted = trusted
  }

  /** The agent's own. */
  get home(): RegistryClient {
    return this.at(this.#home)
  }

  at(url: string): RegistryClient {
    const { origin } = new URL(url)
    const known = this.#clients.get(origin)
    if (known) return known
    const client = this.#connect(origin, (error) => this.refused(origin, error))
    this.#clients.set(origin, client)
    return client
  }

  /**
   * @throws AGENT_NOT_FOUND when every registry says so; REGISTRY_UNREACHABLE when one that may know did not answer; what
   *   `lookup` throws
   */
  async find(amid: Amid): Promise<Found> {
    const asked = this.#known()
    let silent: AgentMeshError | undefined
    for (const url of asked) {
      const registry = this.at(url)
      try {
        const record = await registry.lookup(amid)
        const { registry_endpoint: endpoint } = record
        const home = endpoint === undefined ? url : new URL(endpoint).origin
        if (home === url || !asked.includes(home)) return { record, registry, url }
        return { record: await this.at(home).lookup(amid), registry: this.at(home), url: home }
      } catch (error) {
        if (isAgentMeshError(error, 'REGISTRY_UNREACHABLE')) silent ??= error
        else if (!isAgentMeshError(error, 'AGENT_NOT_FOUND')) throw error
      }
    }
    throw silent ?? new AgentMeshError('AGENT_NOT_FOUND')
  }

  /** The agent's own, then those its owner trusts. */
  get all(): RegistryClient[] {
    return this.#known().map((url) => this.at(url))
  }

  #known(): string[] {
    return [...new Set([this.#home, ...this.#trusted()].map((url) => new URL(url).origin))]
  }

  close(): void {
    for (const client of this.#clients.values()) client.close()
  }
}
