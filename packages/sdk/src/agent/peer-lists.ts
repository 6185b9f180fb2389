/** The owner's lists of peers in the policy, and what changes them besides an edit. */
import { parseAmid, type Amid } from '../wire/index.ts'
import { audit, type Actor, type Core } from './core.ts'

/** Puts a peer on one list and off the other. @throws INVALID_AMID, HOME_FAILED */
export function listPeer(core: Core, amid: string, action: 'allow' | 'block', by: Actor): Amid {
  const peer = parseAmid(amid)
  const policy = core.policy.current()
  const without = (list: readonly Amid[]) => list.filter((listed) => listed !== peer)
  const lists = { allowlist: without(policy.allowlist), blocklist: without(policy.blocklist) }
  lists[`${action}list`].push(peer)
  core.policy.replace({ ...policy, ...lists }, by)
  audit(core, { event: 'breaker', action, peer, by })
  return peer
}

/** What the owner allowed one peer is another's; the first is blocked. @throws HOME_FAILED */
export function replacePeer(core: Core, old: Amid, next: Amid, by: Actor): void {
  const policy = core.policy.current()
  const allowlist = new Set(policy.allowlist.map((listed) => (listed === old ? next : listed)))
  const blocklist = new Set([...policy.blocklist, old])
  core.policy.replace({ ...policy, allowlist: [...allowlist], blocklist: [...blocklist] }, by)
}
