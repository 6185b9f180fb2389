/**
 * The scenarios of test-vectors/session/: handshakes and conversations between A and B, every packet's bytes fixed by
 * recorded randomness and clock. Each ends well or with one refusal, whose code the file names.
 */
import { concatBytes } from '../crypto/index.ts'
import {
  decodeAnswerPacket,
  decodeKnockPacket,
  decodeSessionPacket,
  encodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  encodeSessionPacket,
  formatKey,
  newSessionId,
  type Accept,
  type JsonObject,
} from '../wire/index.ts'
import { testRandom } from '../identity/test-support.ts'
import {
  long,
  close,
  flipped,
  receipt,
  request,
  response,
  scenario,
  status,
  type Scenario,
} from './vector-drafts.ts'
import type { Party, SessionVector } from './vector-format.ts'
import type { Recorder } from './vector-recorder.ts'
import { RECOVERY_SCENARIOS } from './vector-scenarios-recovery.ts'

/** A KNOCK that a dishonest A makes: opened once as it should be, then changed. */
const dishonestKnock = (
  name: string,
  description: string,
  change: (knock: JsonObject, recorder: Recorder) => void,
  signer?: Party,
): Scenario =>
  scenario(name, 'knock.md 4', description, (recorder) => {
    const packet = recorder.knock()
    recorder.open(packet)
    recorder.open(recorder.forgeKnock(packet, (knock) => change(knock, recorder), signer))
  })

const SCENARIOS: readonly Scenario[] = [
  scenario(
    'handshake-one-time-keys',
    'knock.md 3',
    'KNOCK and ACCEPT with one-time prekeys of both kinds',
    (r) => r.meet(),
  ),
  scenario(
    'handshake-no-one-time-keys',
    'knock.md 3',
    'KNOCK and ACCEPT when only the signed and the last-resort prekey were left',
    (r) => r.meet(),
    false,
  ),
  scenario('handshake-rejected', 'knock.md 5', 'KNOCK and REJECT', (r) => {
    r.open(r.knock())
    r.answer(r.reject('intent_not_accepted', 'This agent does not take requests of this kind.'), 'reject')
  }),
  scenario(
    'conversation',
    'sessions.md 3',
    'Messages both ways, receipts, and a CLOSE from each side',
    (r) => {
      r.meet()
      r.say('a', request(1))
      r.say('b', receipt(2, 1))
      r.say('b', status(3, 1))
      r.say('b', response(4, 1))
      r.say('a', request(5))
      r.say('b', response(6, 5))
      r.say('a', close(7, 4))
      r.say('b', close(8, 3, 3))
      r.say('a', receipt(9, 4, 5))
    },
  ),
  scenario(
    'conversation-out-of-order',
    'sessions.md 3',
    'Messages that overtake each other, across two chains',
    (r) => {
      r.meet()
      const [one, two, three] = [request(1), request(2), request(3)].map((draft) => r.send('a', draft))
      r.receive('b', three!)
      r.receive('b', one!)
      r.say('b', response(4, 1))
      r.say('a', request(5))
      r.receive('b', two!)
    },
  ),
  scenario('request-response', 'sessions.md 4', 'One request, a status, one response', (r) => {
    r.meet({ type: 'request_response', ttl_seconds: 300 })
    r.say('a', request(1))
    r.say('b', status(2, 1))
    r.say('b', response(3, 1))
  }),

  scenario('knock-changed-sender', 'knock.md 4', 'The relay names another sender', (r) => {
    r.open(r.knock(), r.agents.b.identity.amid)
  }),
  scenario(
    'knock-changed-versions',
    'knock.md 4',
    'The relay changes the version list of the header',
    (r) => {
      const { header, sealedKnock } = decodeKnockPacket(r.knock())
      const versions = ['agentmesh/0.1', 'agentmesh/0.2']
      r.open(encodeKnockPacket(encodeKnockHeader({ ...header, versions }), sealedKnock))
    },
  ),
  scenario('knock-changed-byte', 'knock.md 4', 'One bit of the sealed KNOCK is flipped', (r) => {
    const packet = r.knock()
    r.open(flipped(packet, packet.length - 100))
  }),
  scenario(
    'knock-unknown-prekey',
    'knock.md 4',
    'The header names a one-time prekey that is used up',
    (r) => {
      const { header, sealedKnock } = decodeKnockPacket(r.knock())
      r.open(encodeKnockPacket(encodeKnockHeader({ ...header, oneTimePrekeyId: 99 }), sealedKnock))
    },
  ),
  scenario(
    'knock-unknown-exchange-key',
    'knock.md 4',
    'The header names an exchange key that is gone',
    (r) => {
      const { header, sealedKnock } = decodeKnockPacket(r.knock())
      r.open(encodeKnockPacket(encodeKnockHeader({ ...header, exchangeKeySequence: 99 }), sealedKnock))
    },
  ),
  scenario(
    'knock-expired',
    'knock.md 4',
    'Opened 72 hours and 5 minutes after it was made, and a second',
    (r) => {
      const packet = r.knock()
      r.now += (72 * 3600 + 300) * 1000
      r.open(packet)
    },
  ),
  scenario('knock-too-large', 'knock.md 4', 'Header and sealed KNOCK exceed 8 KiB', (r) => {
    const { headerBytes } = decodeKnockPacket(r.knock())
    r.open(concatBytes(headerBytes, Uint8Array.of(0x20, 0), new Uint8Array(0x2000)))
  }),
  dishonestKnock('knock-for-somebody-else', 'The signed receiver is another agent', (knock, r) => {
    knock['to'] = r.agents.a.identity.amid
  }),
  dishonestKnock('knock-other-amid', 'The AMID claimed is not the signing key’s', (knock, r) => {
    knock['from'] = { amid: r.agents.b.identity.amid, tier: 2 }
  }),
  dishonestKnock('knock-signed-by-another', 'The signature is another agent’s', () => {}, 'b'),
  dishonestKnock('knock-lower-version', 'A version other than the best common one is chosen', (knock) => {
    knock['protocol_version'] = 'agentmesh/0.1'
  }),
  dishonestKnock('knock-bad-kem-key', 'A’s ML-KEM key has coefficients out of range', (knock) => {
    knock['kem_public_key'] = formatKey('mlkem768', new Uint8Array(1184).fill(0xff))
  }),
  dishonestKnock('knock-lives-too-long', 'It expires later than nonces are kept', (knock) => {
    knock['expires_at'] = '2026-02-05T12:00:00Z'
  }),

  scenario('accept-of-another-knock', 'knock.md 5', 'The ACCEPT names another KNOCK', (r) => {
    r.open(r.knock())
    r.answer(flipped(r.accept(), 0))
  }),
  scenario(
    'accept-under-another-hash',
    'knock.md 5',
    'The ACCEPT of one KNOCK under the hash of the next',
    (r) => {
      r.open(r.knock())
      const { ratchetMessage } = decodeAnswerPacket(r.accept())
      const { knockBytes } = decodeKnockPacket(r.knock())
      r.open(knockBytes)
      r.answer(encodeAnswerPacket({ knockHash: r.opened.knockHash, ratchetMessage }))
    },
  ),
  scenario('accept-changed-byte', 'knock.md 5', 'One bit of the ACCEPT is flipped', (r) => {
    r.open(r.knock())
    const packet = r.accept()
    r.answer(flipped(packet, packet.length - 1))
  }),
  scenario(
    'accept-signed-by-another',
    'knock.md 5',
    'The ACCEPT is not signed by the agent knocked on',
    (r) => {
      r.open(r.knock())
      r.accept()
      r.answer(r.forgeAccept(lastAccept(r), 'a'))
    },
  ),
  scenario(
    'accept-lower-version',
    'knock.md 5',
    'The ACCEPT chooses a version below the best common one',
    (r) => {
      r.open(r.knock())
      r.accept()
      r.answer(r.forgeAccept({ ...lastAccept(r), protocol_version: 'agentmesh/0.1' }))
    },
  ),
  scenario(
    'accept-other-session',
    'knock.md 5',
    'The ACCEPT names a session that is not the one of its keys',
    (r) => {
      r.open(r.knock())
      r.accept()
      const session_id = newSessionId(testRandom('session vectors other session'))
      r.answer(r.forgeAccept({ ...lastAccept(r), session_id }))
    },
  ),
  scenario('accept-of-no-message', 'knock.md 5', 'The ACCEPT took a message that A did not send', (r) => {
    r.open(r.knock())
    r.accept()
    r.answer(r.forgeAccept({ ...lastAccept(r), optimistic_taken: true }))
  }),
  scenario('reject-turned-into-accept', 'knock.md 5', 'The relay gives a REJECT out as an ACCEPT', (r) => {
    r.open(r.knock())
    r.answer(r.reject('paused', 'Later.'), 'accept')
  }),

  scenario('message-changed-type', 'sessions.md 3', 'The relay gives a message out as a CLOSE', (r) => {
    r.receive('b', r.meet().send('a', request(1)), 'close')
  }),
  scenario('message-other-session', 'sessions.md 3', 'The relay moves a message to another session', (r) => {
    const { ratchetMessage } = decodeSessionPacket(r.meet().send('a', request(1)))
    const sessionId = newSessionId(testRandom('session vectors other session'))
    r.receive('b', encodeSessionPacket({ sessionId, ratchetMessage }))
  }),
  scenario('message-reflected', 'sessions.md 3', 'A message comes back to its sender', (r) => {
    r.receive('a', r.meet().send('a', request(1)))
  }),
  scenario('message-replayed', 'sessions.md 3', 'A message comes twice', (r) => {
    const packet = r.meet().send('a', request(1))
    r.receive('b', packet)
    r.receive('b', packet)
  }),
  scenario('message-changed-byte', 'sessions.md 3', 'One bit of a message is flipped', (r) => {
    const packet = r.meet().send('a', request(1))
    r.receive('b', flipped(packet, packet.length - 1))
  }),
  scenario('message-other-direction', 'sessions.md 3', 'The signature is for the other direction', (r) => {
    r.meet().send('a', request(1))
    r.receive(
      'b',
      r.forgeMessage('a', r.lastEnvelope, () => {}, 'b'),
    )
  }),
  scenario(
    'message-sequence-repeated',
    'sessions.md 4',
    'A new message has the sequence number of an old one',
    (r) => {
      r.meet().say('a', request(1))
      r.receive(
        'b',
        r.forgeMessage('a', r.lastEnvelope, () => {}),
      )
    },
  ),
  scenario('message-unknown-type', 'sessions.md 3', 'The envelope’s type is not known', (r) => {
    r.meet().send('a', request(1))
    r.receive(
      'b',
      r.forgeMessage('a', r.lastEnvelope, (raw) => (raw['type'] = 'invoice')),
    )
  }),
  scenario('message-over-limit', 'sessions.md 4', 'One message more than the session allows', (r) => {
    r.meet(undefined, { max_messages: 1 })
    r.say('a', request(1))
    r.send('a', request(2))
  }),
  scenario('message-too-large', 'sessions.md 4', 'A message larger than the session allows', (r) => {
    r.meet(undefined, { max_message_size_bytes: 4096 })
    r.send('a', long(request(1)))
  }),
  scenario('message-out-of-turn', 'sessions.md 4', 'A second request in a session for one', (r) => {
    r.meet({ type: 'request_response', ttl_seconds: 300 })
    r.say('a', request(1))
    r.send('a', request(2))
  }),
  scenario('message-after-close', 'sessions.md 5', 'A message after the other side closed', (r) => {
    r.meet()
    r.say('a', close(1, 0))
    r.send('b', request(2))
  }),
  scenario('message-expired', 'sessions.md 4', 'A message after the session’s time', (r) => {
    r.meet({ type: 'conversation', ttl_seconds: 60 })
    r.now += 60_000
    r.send('a', request(1))
  }),
]

/** The fields of the last ACCEPT, unsigned. */
function lastAccept(recorder: Recorder): Omit<Accept, 'signature'> {
  const step = recorder.steps.findLast((candidate) => candidate.do === 'accept')
  const { signature: _, ...accept } = step!.accept
  return accept
}

/** Every vector by its file's name. */
export function sessionVectors(): ReadonlyMap<string, SessionVector> {
  return new Map(
    [...SCENARIOS, ...RECOVERY_SCENARIOS].map(([name, section, description, play]) => {
      const { agents, bundle, steps } = play()
      const refused = steps.find((step) => 'expect' in step && step.expect !== 'ok')
      const vector = {
        description,
        section: `spec/${section}`,
        expect: refused !== undefined && 'expect' in refused ? refused.expect : 'ok',
        agents: { a: agents.a.vector, b: agents.b.vector },
        bundle,
        steps,
      }
      return [name, vector]
    }),
  )
}
