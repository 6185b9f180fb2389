/** `down` and `status`: of a daemon that runs. They load none of what it is made of. */
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentStatus, HomeReason, RelayStanding } from '@agentmesh/sdk'
import { AgentMeshError, escapeText } from '@agentmesh/sdk/wire'
import { color, fields, show, type Context } from '../output.ts'
import { clientOf, unlessDown } from './shared.ts'

const END_SECONDS = 20
const LOOK_MS = 50

export async function down(context: Context): Promise<void> {
  const client = clientOf(context)
  const running = await unlessDown(client.status())
  if (running === undefined) {
    show(context, { stopped: false }, () => 'No daemon was running.')
    return
  }
  await client.down()
  await ended(running.pid)
  show(context, { stopped: true, pid: running.pid }, () => 'The daemon has ended.')
}

/** Resolves when the process is gone, and with it its lock. @throws WAIT_TIMEOUT */
export async function ended(pid: number): Promise<void> {
  const attempts = (END_SECONDS * 1000) / LOOK_MS
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (!isAlive(pid)) return
    await delay(LOOK_MS)
  }
  throw new AgentMeshError('WAIT_TIMEOUT', `Process ${pid} does not end`)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export async function status(context: Context): Promise<void> {
  show(context, await clientOf(context).status(), describe)
}

const WHY_HOME: Record<HomeReason, string> = {
  only: '',
  nearest: '(the nearest)',
  near_enough: '(no other is clearly nearer)',
  fallback: '(a nearer one is passed over, since it failed)',
  last_resort: '(none can be reached)',
}

function describeRelay(relay: RelayStanding): [string, string] {
  const { url, home, latency_ms } = relay
  const latency = latency_ms === null ? 'not reached when measured' : `${latency_ms} ms`
  return ['', `${home ? '*' : ' '} ${url}  ${latency}${relay.down ? ', passed over for now' : ''}`]
}

export function describe(state: AgentStatus): string {
  const { sessions, outbox, inbox, prekeys, policy, registry, relay, relays, trust, audit } = state
  const good = (fine: boolean, text: string) => (fine ? text : `${text}  (!)`)
  const capabilities = state.capabilities.map((capability) =>
    typeof capability === 'string'
      ? capability
      : [capability.category, capability.subcategory].filter((part) => part !== undefined).join('/'),
  )
  const text = fields([
    ['AMID', state.amid],
    ['name', state.display_name ?? '-'],
    ['home', state.home],
    ['daemon', `process ${state.pid} since ${state.started_at}, ${state.version}`],
    ['breaker', good(state.breaker === 'running', state.breaker)],
    ['presence', state.presence],
    [
      'relay',
      `${good(relay.state === 'connected', relay.state)}  ${relay.url ?? '-'}` +
        (relay.reason === undefined ? '' : `  ${WHY_HOME[relay.reason]}`) +
        (relay.last_error === undefined ? '' : `  ${relay.last_error}`),
    ],
    ...(relays.length === 1 ? [] : relays.map(describeRelay)),
    [
      'registry',
      `${good(registry.state === 'registered', registry.state)}  ${registry.url}` +
        (registry.last_error === undefined ? '' : `  ${registry.last_error}`),
    ],
    ['sessions', `${sessions.open} open, ${sessions.total} in all`],
    ['outbox', `${outbox.queued} queued, ${outbox.unacknowledged} not acknowledged`],
    ['inbox', `${inbox.waiting} waiting for an answering program`],
    [
      'prekeys',
      `${prekeys.one_time_left} one-time, ${prekeys.one_time_kem_left} one-time KEM; next rotation ` +
        prekeys.signed_prekey_rotates_at,
    ],
    ['trust', describeTrust(trust)],
    ['exchange', `key rotates ${prekeys.exchange_key_rotates_at}`],
    ['policy', policy.valid ? 'valid' : `the last good one is in force: ${policy.error ?? ''}  (!)`],
    ...(audit.gaps === 0
      ? []
      : [['audit', `${audit.gaps} gaps not acknowledged: agentmesh audit verify  (!)`] as const]),
    ['can do', capabilities.join(', ') || '-'],
  ])
  const notices = state.notices.map(({ at, about, text: said }) => escapeText(`${at} ${about}: ${said}`))
  const told = notices.length === 0 ? [] : ['', color.dim('notices since it started'), ...notices]
  const waiting = state.successors.map(
    ({ old_amid, new_amid }) => `${new_amid} says to go on as ${old_amid}: agentmesh trust successors`,
  )
  return [text.replaceAll('(!)', color.yellow('(!)')), ...waiting, ...told].join('\n')
}

function describeTrust(trust: AgentStatus['trust']): string {
  const {
    tier,
    display_name,
    organization,
    reputation,
    certificate_expires_at,
    registries,
    inconsistent,
    last_error,
  } = trust
  const name = [display_name, organization].filter((text) => text !== undefined).join(', ')
  return [
    name === '' ? tier : `${tier} (${escapeText(name)})`,
    ...(certificate_expires_at === undefined ? [] : [`certificate until ${certificate_expires_at}`]),
    ...(reputation === undefined ? [] : [`reputation ${reputation.toFixed(2)}`]),
    registries.length === 0 ? 'no registry trusted' : `trusts ${escapeText(registries.join(', '))}`,
    ...inconsistent.map((known) => color.red(`${escapeText(known)} contradicts itself and does not count`)),
    ...(last_error === undefined ? [] : [color.red(escapeText(last_error))]),
  ].join('; ')
}
