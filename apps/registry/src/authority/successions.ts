/**
 * Succession (DESIGN §4): the recovery key says that one AMID is succeeded by another, and what was verified about the old one
 * moves. The recovery key proves the old side, the signed request the new one.
 *
 * The key that counts is the first one the old agent named here: a thief of its signing key can name another, too late. It is
 * kept when the agent deregisters, which the thief could do as well.
 */
import { verifySuccession, type LogEntry } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  canonicalText,
  parseKey,
  type Amid,
  type Succession,
  type SuccessionAnswer,
  type SuccessionList,
} from '@agentmesh/sdk/wire'
import type { Organizations } from '../organizations/organizations.ts'
import type { Visitor } from '../route.ts'
import type { Store } from '../store/store.ts'
import type { CertificateAuthority } from './certificate-authority.ts'

/**
 * The same statement again gets the same answer, with nothing revoked.
 *
 * @param raw the statement as received
 * @throws NOT_OWNER, NOT_REGISTERED, AGENT_NOT_FOUND, SUCCESSION_REFUSED, AMID_SUCCEEDED, INVALID_SIGNATURE, MALFORMED
 */
export async function succeed(
  {
    authority,
    organizations,
    store,
  }: {
    readonly authority: CertificateAuthority
    readonly organizations: Organizations
    readonly store: Store
  },
  visitor: Visitor,
  raw: { readonly old_amid: Amid; readonly new_amid: Amid },
  now: number,
): Promise<SuccessionAnswer> {
  const { old_amid: oldAmid, new_amid: newAmid } = raw
  if (visitor.amid !== newAmid)
    throw new AgentMeshError('NOT_OWNER', 'The new agent itself brings the statement')
  const { certificates } = store
  const revoked = await store.transaction('take a succession', async (tx) => {
    // In one order, so that two statements about the same pair do not wait for each other.
    const registered = new Map<Amid, boolean>()
    for (const amid of [oldAmid, newAmid].toSorted())
      registered.set(amid, await certificates.lockAgent(tx, amid))
    if (registered.get(newAmid) !== true) throw new AgentMeshError('NOT_REGISTERED')
    const key = await certificates.recoveryKey(tx, oldAmid)
    const isRegistered = registered.get(oldAmid) === true
    if (key === undefined && isRegistered) {
      throw new AgentMeshError('SUCCESSION_REFUSED', 'The old agent named no recovery key to this registry')
    }
    // Of an agent that is gone only the holder of its recovery key learns that it was here: for any other it is one that
    // never was, after the same work.
    const statement = attempt(
      () => verifySuccession(raw, key === undefined ? visitor.publicKey : parseKey('ed25519', key), now),
      isRegistered,
    )
    if (key === undefined) throw new AgentMeshError('AGENT_NOT_FOUND')
    if ((await certificates.successorOf(tx, newAmid)) !== undefined)
      throw new AgentMeshError('AMID_SUCCEEDED')
    const stands = await certificates.addSuccession(tx, {
      old_amid: oldAmid,
      new_amid: newAmid,
      statement: canonicalText(statement),
      taken_at: now,
    })
    if (stands !== newAmid) {
      throw new AgentMeshError('SUCCESSION_REFUSED', 'The old agent has another successor already')
    }
    const before = await certificates.verifiedAgent(oldAmid, tx)
    const own = await certificates.verifiedAgent(newAmid, tx)
    if (before !== undefined && own !== undefined && own.human !== before.human) {
      throw new AgentMeshError('SUCCESSION_REFUSED', 'The new agent is verified as somebody else')
    }
    const { entries, count } = await authority.dropAgent(tx, oldAmid, 'superseded', now)
    const ended: LogEntry[] = await organizations.end(tx, oldAmid, 'revoked', now)
    if (before !== undefined) {
      await certificates.addAgentOfHuman(tx, { ...before, amid: newAmid, verified_at: now })
      await authority.restand(tx, newAmid, now)
    }
    await authority.append(tx, [...entries, ...ended])
    return count + ended.length
  })
  const verified = await certificates.verifiedAgent(newAmid)
  return {
    old_amid: oldAmid,
    new_amid: newAmid,
    revoked,
    ...(verified === undefined ? {} : { certified: await authority.issueAgent(visitor, now) }),
  }
}

/** @throws AGENT_NOT_FOUND in place of what `verify` throws, for an agent that is not registered */
function attempt<T>(verify: () => T, isRegistered: boolean): T {
  try {
    return verify()
  } catch (cause) {
    throw isRegistered ? cause : new AgentMeshError('AGENT_NOT_FOUND', undefined, { cause })
  }
}

/** Also of an AMID that is not registered any more: whoever stole its key cannot hide that it was succeeded. */
export async function successionsOf(store: Store, amid: Amid): Promise<SuccessionList> {
  const statements = await store.certificates.successionsOf(amid)
  // Checked when they were taken, by the schema whose fields these are.
  return { successions: statements.map((text) => JSON.parse(text) as Succession) }
}
