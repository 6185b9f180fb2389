/** The daemon: one agent behind its local API, until a signal or a client ends it. */
import { Agent } from './agent.ts'
import { LocalApi } from './local-api.ts'
import type { AgentOptions } from './open-core.ts'

export interface DaemonOptions extends AgentOptions {
  /** Called when the agent is open and clients can connect. */
  onReady?: (agent: Agent) => void
}

/**
 * Runs until SIGINT, SIGTERM or a client's `down`; resolves when everything is closed.
 *
 * @throws as `Agent.open`; STATE_WRITE_FAILED when the disk failed so that only a new start tells what it holds
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const agent = await Agent.open(options)
  let end!: (reason: string) => void
  let reason = 'fatal'
  const ended = new Promise<void>((resolve, reject) => {
    end = (why) => {
      reason = why
      resolve()
    }
    agent.events.once('fatal', reject)
  })
  // `await` comes only after the API listens.
  ended.catch(() => {})
  const api = new LocalApi(agent, end)
  try {
    await api.listen()
    process.once('SIGINT', end)
    process.once('SIGTERM', end)
    options.onReady?.(agent)
    await ended
  } finally {
    process.removeListener('SIGINT', end)
    process.removeListener('SIGTERM', end)
    await api.close()
    await agent.close(reason)
  }
}
