/** The owner's hands on the agent: block, allow, presence, and the circuit breakers (specification §7.4). */
import type { Amid, Policy, PresenceState } from '@agentmesh/sdk'
import { parseAmid } from '@agentmesh/sdk/wire'
import { show, type Context } from '../output.ts'
import { changePolicy } from './policy.ts'
import { clientOf, unlessDown } from './shared.ts'

export async function block(context: Context, text: string): Promise<void> {
  const amid = parseAmid(text)
  const done = await unlessDown(
    clientOf(context)
      .block(amid)
      .then(() => true),
  )
  if (done === undefined)
    await changePolicy(context, (policy) => listed(policy, amid, 'blocklist', 'allowlist'))
  show(context, { amid, blocked: true }, () => `${amid} is blocked.`)
}

export async function allow(context: Context, text: string): Promise<void> {
  const amid = parseAmid(text)
  const done = await unlessDown(
    clientOf(context)
      .allow(amid)
      .then(() => true),
  )
  if (done === undefined)
    await changePolicy(context, (policy) => listed(policy, amid, 'allowlist', 'blocklist'))
  show(context, { amid, allowed: true }, () => `${amid} is on the allowlist.`)
}

export async function presence(context: Context, state: PresenceState): Promise<void> {
  await clientOf(context).setPresence(state)
  show(context, { presence: state }, () => `Others see this agent as ${state}, until its daemon ends.`)
}

type List = 'blocklist' | 'allowlist'

function listed(policy: Policy, amid: Amid, on: List, off: List): Policy {
  return {
    ...policy,
    [on]: [...new Set([...policy[on], amid])],
    [off]: policy[off].filter((entry) => entry !== amid),
  }
}

const SAYS = {
  pause: 'New KNOCKs are refused; sessions go on.',
  resume: 'The agent is at work.',
  shutdown: 'All sessions have ended; the agent is off the network until `agentmesh resume`.',
  'emergency-stop':
    'Everything has ended: sessions, programs, the daemon. `agentmesh up` and `resume` undo it.',
} as const

export async function setBreaker(context: Context, name: keyof typeof SAYS): Promise<void> {
  const client = clientOf(context)
  const states = {
    pause: 'paused',
    resume: 'running',
    shutdown: 'shutdown',
    'emergency-stop': 'emergency_stop',
  }
  if (name === 'pause') await client.pause()
  else if (name === 'resume') await client.resume()
  else if (name === 'shutdown') await client.shutdown()
  else await client.emergencyStop()
  show(context, { breaker: states[name] }, () => SAYS[name])
}
