/**
 * What was seen of a peer's keys (DESIGN §7.1): the highest sequence of its record and of each kind of key. They only go up, so a
 * registry that answers with lower ones replays the past, as one does that gives a bundle which its own record contradicts: a key
 * whose secret was stolen since, or was deleted.
 */
import { AgentMeshError, type AgentRecord, type Amid, type Bundle, type SignedKey } from '../wire/index.ts'
import type { Core } from './core.ts'
import type { ContactRow } from './tables.ts'

type PrekeySequences = NonNullable<ContactRow['prekeySequences']>

function refuse(why: string): never {
  throw new AgentMeshError('REGISTRY_ANSWER_INVALID', why, { operation: 'knock' })
}

function prekeysOf({ signed_prekey, one_time_prekey, kem_prekey }: Bundle): SignedKey[] {
  return [signed_prekey, kem_prekey, ...(one_time_prekey === undefined ? [] : [one_time_prekey])]
}

/**
 * Holds a bundle and the record it came with to what was seen before, and keeps what is newer. Both are verified by themselves.
 * Call within a commit. @throws REGISTRY_ANSWER_INVALID for an older record or key, or a bundle against its record
 */
export function checkContactKeys(core: Core, peer: Amid, record: AgentRecord, bundle: Bundle): void {
  const { contacts } = core.store.tables
  const known = contacts.get(peer)
  const exchange = bundle.exchange_key
  const shown = record.public_keys.exchange_key
  const isOther = exchange.sequence === shown.sequence && exchange.key !== shown.key
  if (exchange.sequence < shown.sequence || isOther) {
    refuse('The registry gave a bundle with another exchange key than the agent’s record has')
  }
  if (known && record.sequence < known.recordSequence) refuse('The registry gave an older record')
  if (known && exchange.sequence < known.exchangeSequence) refuse('The registry gave an older exchange key')
  const prekeySequences: PrekeySequences = { ...known?.prekeySequences }
  for (const { kind, sequence } of prekeysOf(bundle)) {
    if (sequence < (prekeySequences[kind] ?? 0)) refuse(`The registry gave an older prekey (${kind})`)
    prekeySequences[kind] = sequence
  }
  const now = core.now()
  const sequences = { recordSequence: record.sequence, exchangeSequence: exchange.sequence, prekeySequences }
  contacts.put(peer, { ...sequences, lastSeenAt: now }, { at: now })
}
