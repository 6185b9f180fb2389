/** Scenarios of test-vectors/session/: messages that go along with a KNOCK, and packets that cannot be used. */
import { concatBytes } from '../crypto/index.ts'
import { knockHash } from '../session/index.ts'
import {
  canonicalBytes,
  decodeKnockPacket,
  MAX_RESET_BYTES,
  parseJsonObject,
  toBase64,
  type JsonObject,
} from '../wire/index.ts'
import { long, flipped, receipt, request, response, scenario, type Scenario } from './vector-drafts.ts'
import type { Party } from './vector-format.ts'
import type { Recorder } from './vector-recorder.ts'

/** A KNOCK with a message of a dishonest A behind it: the KNOCK opens, and the message is not taken. */
const dishonestOptimistic = (
  name: string,
  description: string,
  change: (raw: JsonObject) => void,
  oneTimeKeys = true,
  signer?: Party,
): Scenario =>
  scenario(
    name,
    'knock.md 6',
    description,
    (recorder) => {
      const packet = recorder.knock()
      recorder.open(packet)
      recorder.refuseOptimistic(recorder.forgeOptimistic(packet, change, signer))
    },
    oneTimeKeys,
  )

export const RECOVERY_SCENARIOS: readonly Scenario[] = [
  scenario('optimistic', 'knock.md 6', 'A request goes along with the KNOCK and is taken', (r) => {
    r.open(r.knock(undefined, request(1)))
    const accept = r.accept()
    r.openOptimistic()
    r.answer(accept)
    r.say('b', response(2, 1))
    r.say('a', request(3))
  }),
  scenario(
    'optimistic-stripped',
    'knock.md 6',
    'The relay cuts the message off; A sends it in the session',
    (r) => {
      r.open(decodeKnockPacket(r.knock(undefined, request(1))).knockBytes)
      r.answer(r.accept())
      r.say('a', request(1))
    },
  ),
  scenario('optimistic-asked-again', 'knock.md 6', 'The message was the one request of the session', (r) => {
    r.open(r.knock({ type: 'request_response', ttl_seconds: 300 }, request(1)))
    const accept = r.accept()
    r.openOptimistic()
    r.answer(accept)
    r.say('b', response(2, 1))
    r.send('a', request(3))
  }),
  scenario(
    'optimistic-swapped',
    'knock.md 6',
    'The relay puts the message of one KNOCK behind the next',
    (r) => {
      const { optimisticMessage } = decodeKnockPacket(r.knock(undefined, request(1)))
      const { knockBytes } = decodeKnockPacket(r.knock(undefined, request(2)))
      r.refuseOptimistic(concatBytes(knockBytes, optimisticMessage!))
    },
  ),
  scenario('optimistic-changed-byte', 'knock.md 6', 'One bit of the message is flipped', (r) => {
    const packet = r.knock(undefined, request(1))
    r.refuseOptimistic(flipped(packet, packet.length - 1))
  }),
  scenario(
    'optimistic-too-large',
    'knock.md 6',
    'The message is larger than B allows in the session',
    (r) => {
      r.refuseOptimistic(r.knock(undefined, long(request(1))), { max_message_size_bytes: 4096 })
    },
  ),
  dishonestOptimistic('optimistic-no-one-time-keys', 'The KNOCK used no one-time keys', () => {}, false),
  dishonestOptimistic('optimistic-of-another-knock', 'The signed hash is another KNOCK’s', (raw) => {
    raw['knock_hash'] = toBase64(new Uint8Array(32))
  }),
  dishonestOptimistic('optimistic-no-request', 'The message is no request', (raw) => {
    raw['type'] = 'status'
    raw['payload'] = { status: 'processing' }
  }),
  dishonestOptimistic('optimistic-other-time', 'It was made long before its KNOCK', (raw) => {
    raw['timestamp'] = '2026-02-01T11:00:00Z'
  }),
  dishonestOptimistic(
    'optimistic-signed-by-another',
    'Its signature is another agent’s',
    () => {},
    true,
    'b',
  ),
  scenario('reset-session', 'sessions.md 6', 'B lost the session, and says so of a message of A', (r) => {
    r.consumeReset('a', lostSession(r))
  }),
  scenario('reset-knock', 'sessions.md 6', 'B has no prekey of the id that the KNOCK names', (r) => {
    const packet = r.knock()
    const about = { knock_hash: toBase64(knockHash(packet)) }
    r.consumeReset('a', r.reset('b', about, packet, 'prekey_unknown'))
  }),
  scenario('reset-state-behind', 'sessions.md 6', 'A sends with a state older than what B has seen', (r) => {
    r.meet().say('a', request(1))
    const about = { session_id: r.lastEnvelope.session_id }
    const repeated = r.forgeMessage('a', r.lastEnvelope, () => {})
    r.consumeReset('a', r.reset('b', about, repeated, 'state_behind', 1))
  }),
  scenario('reset-changed', 'sessions.md 6', 'The relay changes the hash in a RESET', (r) => {
    const { packet_hash: _, ...rest } = parseJsonObject(lostSession(r), MAX_RESET_BYTES)
    r.consumeReset('a', canonicalBytes({ ...rest, packet_hash: toBase64(new Uint8Array(32)) }))
  }),
  scenario('reset-of-another', 'sessions.md 6', 'The relay gives A’s own RESET out as B’s', (r) => {
    r.meet().send('a', request(1))
    const about = { session_id: r.lastEnvelope.session_id }
    const own = r.reset('a', about, r.send('b', receipt(2, 0)), 'undecryptable', 0)
    r.consumeReset('a', own)
  }),
  scenario('reset-for-somebody-else', 'sessions.md 6', 'The RESET is meant for another agent', (r) => {
    r.consumeReset('a', r.resetTo(r.agents.b.identity.amid, lostSession(r)))
  }),
  scenario('reset-too-old', 'sessions.md 6', 'The RESET is older than mailboxes keep', (r) => {
    const packet = lostSession(r)
    r.now += 73 * 3600 * 1000
    r.consumeReset('a', packet)
  }),
]

/** B's RESET for a message in a session that it does not have. */
function lostSession(recorder: Recorder): Uint8Array {
  const packet = recorder.meet().send('a', request(1))
  return recorder.reset('b', { session_id: recorder.lastEnvelope.session_id }, packet, 'session_unknown')
}
