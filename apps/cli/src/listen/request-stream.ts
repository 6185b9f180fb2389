/**
 * The requests a daemon hands out, for as long as this listener lives.
 *
 *   connected --(daemon ends)--> waiting --(it serves again)--> connected
 *                                  |  ^ not there yet: again after a growing delay
 *                                  +--+
 *
 * A home that has no daemon at the start is a mistake its owner is told of. Requests that were open when a daemon ended are
 * handed out again by the next one, with their ids.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentClient, ListenerEvent } from '@agentmesh/sdk'
import { AgentMeshError, isAgentMeshError } from '@agentmesh/sdk/wire'

const FIRST_RETRY_MS = 250
const MAX_RETRY_MS = 10_000

/** One that the daemon sent, or that it went away. */
export type RequestEvent = ListenerEvent | { type: 'disconnected' }

/**
 * @param pause resolves after so many milliseconds, or when the signal aborts
 * @throws DAEMON_NOT_RUNNING when none runs at the start, WAIT_TIMEOUT when the signal aborts
 */
export async function* requestStream(
  client: Pick<AgentClient, 'requests'>,
  signal: AbortSignal,
  pause: (milliseconds: number, signal: AbortSignal) => Promise<void> = untilLater,
): AsyncGenerator<RequestEvent, void, void> {
  let wasConnected = false
  let wait = FIRST_RETRY_MS
  for (;;) {
    let connected = false
    try {
      for await (const event of client.requests(signal)) {
        connected = true
        yield event
      }
    } catch (error) {
      if (!isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) throw error
      if (!wasConnected && !connected) throw error
    }
    if (signal.aborted) throw new AgentMeshError('WAIT_TIMEOUT', 'The listener ends')
    if (connected) {
      wasConnected = true
      wait = FIRST_RETRY_MS
      yield { type: 'disconnected' }
    }
    await pause(wait, signal)
    wait = Math.min(wait * 2, MAX_RETRY_MS)
  }
}

async function untilLater(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(milliseconds, undefined, { signal })
  } catch {
    // The caller looks at the signal.
  }
}
