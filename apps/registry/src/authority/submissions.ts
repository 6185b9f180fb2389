/** Certificates and lists that organisations made themselves: checked here, logged, and what they mean for the agents. */
import {
  parseCertificate,
  parseCrl,
  validatePath,
  type Certificate,
  type Crl,
  type LogEntry,
} from '@agentmesh/sdk/identity'
import { AgentMeshError, fromBase64, toBase64, type Amid } from '@agentmesh/sdk/wire'
import type { Store } from '../store/store.ts'
import type { IssuedCertificate } from './authority.ts'
import { certificateEntry, revocationEntry, type CertificateAuthority } from './certificate-authority.ts'

const DAY = 86_400_000
/** As long as the registry's own, and some time for clocks. */
const MAX_AGENT_LIFETIME = 31 * DAY

/**
 * Takes in a certificate that an organisation issued. The same one again gets the proof again.
 *
 * @param bringer the agent itself: an organisation alone makes nobody its member
 * @param chain base64 DER: the agent's certificate, the organisation's
 * @throws CERTIFICATE_MALFORMED, CERTIFICATE_INVALID, NOT_OWNER, NOT_REGISTERED, AMID_SUCCEEDED
 */
export async function submitChain(
  authority: CertificateAuthority,
  store: Store,
  bringer: Amid,
  chain: readonly string[],
  now: number,
): Promise<IssuedCertificate> {
  const ders = chain.map(fromBase64)
  const [agent, organization] = ders.map(parseCertificate)
  if (agent?.amid === undefined || organization === undefined) throw invalid('It is no agent’s')
  const { amid } = agent
  // The signed request is the agent's consent: it covers these very certificates, and an organisation cannot sign it.
  if (bringer !== amid) throw new AgentMeshError('NOT_OWNER')
  const { root, intermediates } = authority
  const lists = await authority.lists.several(
    [root, ...intermediates, organization].map(({ keyId }) => keyId),
    now,
  )
  const verdict = validatePath(ders, { root, intermediates }, { now, amid, crlOf: (id) => lists.get(id) })
  if (!verdict.valid || verdict.tier !== 1.5) {
    const { code = 'profile', step = '', depth = 0 } = verdict.failure ?? {}
    throw invalid(`${code} at depth ${depth}${step === '' ? '' : ` (RFC 5280 ${step})`}`)
  }
  if (agent.notAfter - agent.notBefore > MAX_AGENT_LIFETIME) throw invalid('It lives longer than 31 days')
  await store.transaction('take in a certificate', async (tx) => {
    const { certificates } = store
    if (!(await certificates.lockAgent(tx, amid))) throw new AgentMeshError('NOT_REGISTERED')
    if ((await certificates.successorOf(tx, amid)) !== undefined) throw new AgentMeshError('AMID_SUCCEEDED')
    const isNew = await authority.add(tx, 'agent', agent, amid)
    if (!isNew && (await certificates.isRevoked(tx, organization.keyId, agent.serial)))
      throw invalid('It was revoked')
    await certificates.agree(tx, { issuer: organization.keyId, serial: agent.serial }, now)
    await authority.restand(tx, amid, now)
    if (isNew) await authority.append(tx, [certificateEntry(agent, now)])
  })
  return authority.proven([agent, organization] satisfies Certificate[], now)
}

/**
 * Takes in an organisation's own revocation list, and ends the memberships of the agents on it.
 *
 * @throws ORGANIZATION_UNKNOWN, NOT_OWNER, SEQUENCE_REPLAYED, CERTIFICATE_MALFORMED, CERTIFICATE_INVALID
 */
export async function submitList(
  authority: CertificateAuthority,
  store: Store,
  bringer: Amid,
  keyId: string,
  der: Uint8Array,
  now: number,
): Promise<void> {
  const list: Crl = await authority.lists.readForeign(keyId, bringer, der, now)
  const { certificates } = store
  const stored = await certificates.list(keyId)
  if (stored !== undefined) checkKept(parseCrl(fromBase64(stored.der)), list)
  await store.transaction('take in a revocation list', async (tx) => {
    const isNewer = await certificates.putForeignList(tx, {
      issuer: keyId,
      number: list.number,
      der: toBase64(der),
      this_update: list.thisUpdate,
      next_update: list.nextUpdate,
    })
    if (!isNewer) {
      if (stored?.der === toBase64(der)) return
      throw new AgentMeshError(
        'SEQUENCE_REPLAYED',
        'The list’s number is not higher than that of the list here',
      )
    }
    const entries: LogEntry[] = []
    for (const { serial, amid } of await certificates.held(tx, keyId, now)) {
      const entry = list.entries.get(serial)
      if (entry === undefined) continue
      await certificates.revoke(tx, { kind: 'agent', issuer: keyId, serial }, entry.reason, now)
      if (amid !== null) await authority.restand(tx, amid, now)
      entries.push(revocationEntry({ issuer: keyId, serial, amid }, entry.reason, now))
    }
    await authority.append(tx, entries)
  })
}

/** What was revoked stays so for as long as a certificate may live. @throws CERTIFICATE_INVALID */
function checkKept(before: Crl, after: Crl): void {
  const cutoff = after.thisUpdate - MAX_AGENT_LIFETIME
  for (const { serial, revokedAt } of before.entries.values()) {
    if (revokedAt > cutoff && !after.entries.has(serial))
      throw invalid(`The list takes back the revocation of ${serial}`)
  }
}

function invalid(why: string): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_INVALID', `Refused: ${why}`, { operation: 'take in a certificate' })
}
