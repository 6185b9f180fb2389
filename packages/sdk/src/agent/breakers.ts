/**
 * The owner's circuit breakers (specification §7.4, DESIGN §9). State is in the store, so it survives a restart; nothing
 * here waits for the relay.
 *
 *   running <--> paused           new KNOCKs are refused, sessions go on
 *      ^  \
 *      |   +--> shutdown          sessions ended, off the relay and the registry, until `resume`
 *      +------- emergency_stop    the same, and the agent framework is stopped too
 */
import { execFile } from 'node:child_process'
import { AgentMeshError } from '../wire/index.ts'
import { childEnvironment } from './child-environment.ts'
import { audit, commit, type Actor, type Core } from './core.ts'
import type { BreakerState } from './types.ts'

/** A framework that takes longer to stop is left to its owner, who is told. */
const FRAMEWORK_STOP_MS = 10_000
const META_KEY = 'breaker'

const ACTIONS = {
  running: 'resume',
  paused: 'pause_new',
  shutdown: 'shutdown',
  emergency_stop: 'emergency_stop',
} as const

export class Breakers {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  get state(): BreakerState {
    return (this.#core.store.tables.meta.get(META_KEY) as BreakerState | undefined) ?? 'running'
  }

  /** New KNOCKs are refused in every state but `running`. */
  get refusesKnocks(): boolean {
    return this.state !== 'running'
  }

  /** Off the network: no relay, no registry, nothing sent. */
  get offline(): boolean {
    const { state } = this
    return state === 'shutdown' || state === 'emergency_stop'
  }

  /** @throws AGENT_STOPPED when the owner has taken the agent off the network. */
  requireOnline(): void {
    if (this.offline) {
      throw new AgentMeshError(
        'AGENT_STOPPED',
        `The owner stopped this agent (${this.state}); \`agentmesh resume\` starts it`,
      )
    }
  }

  async set(state: BreakerState, by: Actor): Promise<void> {
    await commit(this.#core, (afterCommit) => {
      this.#core.store.tables.meta.put(META_KEY, state)
      afterCommit.push(() => this.#core.events.emit('breaker', state))
    })
    audit(this.#core, { event: 'breaker', action: ACTIONS[state], by })
  }

  /**
   * Runs the owner's command that stops the agent framework, when `config.json` names one; resolves when it ended, at
   * the latest after 10 seconds. A failure is in the audit log (FRAMEWORK_NOT_STOPPED), not thrown.
   */
  async stopFramework(): Promise<void> {
    const [program, ...args] = this.#core.config.framework_stop_command ?? []
    if (program === undefined) return
    await new Promise<void>((resolve) => {
      const options = { timeout: FRAMEWORK_STOP_MS, env: childEnvironment(process.env) }
      execFile(program, args, options, (error) => {
        if (error) {
          audit(this.#core, {
            event: 'agent_error',
            code: 'FRAMEWORK_NOT_STOPPED',
            operation: program,
            detail: error.message,
          })
        }
        resolve()
      })
    })
  }
}
