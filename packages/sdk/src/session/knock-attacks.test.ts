/** What somebody between two agents, or one of them, may try in a handshake. Every case ends with nothing changed. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  aeadDecrypt,
  aeadEncrypt,
  concatBytes,
  encodeRatchetState,
  equalBytes,
  ownRatchetKey,
  ratchetEncrypt,
  ratchetRespond,
  sign,
  x3dhInitiate,
  x3dhRespond,
  type SigningLabel,
  x25519KeyPair,
} from '../crypto/index.ts'
import {
  amidToBytes,
  canonicalBytes,
  decodeKnockPacket,
  encodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  formatKey,
  formatTimestamp,
  newSessionId,
  parseJsonObject,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  type JsonObject,
  type KnockHeader,
} from '../wire/index.ts'
import { associatedData, deriveSessionId, keyConfirmation, knockAssociatedData } from './handshake.ts'
import { createAccept, createReject } from './knock-answer.ts'
import { consumeAnswer, type PendingKnock } from './knock-initiator.ts'
import type { OpenedKnock } from './knock-responder.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import { acceptTerms, CONVERSATION, environment, flipped, knockOn, meet, TestAgent } from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const mallory = new TestAgent('mallory')
const { pending, packet } = knockOn(alice, bob.verifiedBundle())
const opened = bob.open(packet, alice)
const accepted = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
const rejected = createReject(
  opened,
  { identity: bob.identity, reason: 'paused', humanReadable: 'Later.', retryAfterSeconds: null },
  environment('reject'),
)

const HOUR = 3_600_000

/**
 * A KNOCK by Mallory's own hand: the JSON and header changed as wanted, everything else done right, the signature included
 * unless `signer` is somebody else.
 */
function forgedKnock(
  changes: (knock: JsonObject) => void,
  options: { header?: Partial<KnockHeader>; as?: TestAgent; label?: SigningLabel; signer?: TestAgent } = {},
): Uint8Array {
  const sender = options.as ?? mallory
  const bundle = bob.verifiedBundle()
  const versions = options.header?.versions ?? ['agentmesh/0.2']
  const context = {
    initiator: amidToBytes(sender.identity.amid),
    responder: amidToBytes(bob.identity.amid),
    initiatorVersions: versions,
    responderVersions: bundle.signedPrekey.versions,
  }
  const agreed = x3dhInitiate(
    context,
    x25519KeyPair(mallory.exchange.secret),
    {
      identityKey: bundle.identityKey,
      signedPrekey: bundle.signedPrekey.key,
      oneTimePrekey: bundle.oneTimePrekey!.key,
      kemKey: bundle.kemPrekey.key,
      kemKind: 'one-time',
    },
    testRandom('forged'),
  )
  const original = decodeKnockPacket(knockOn(mallory, bundle).packet)
  const header = {
    ...original.header,
    identityKey: x25519KeyPair(mallory.exchange.secret).publicKey,
    ephemeralKey: agreed.ephemeralKey,
    ratchetKey: options.header?.ratchetKey ?? agreed.ratchetKeyPair.publicKey,
    kemCiphertext: agreed.kemCiphertext,
    versions,
  }
  // The same keys from the other side: a ratchet key of no secret is in the transcript too.
  const { exchangeKeys, ...own } = bob.keys.find(header)!
  const { keys, transcript } = x3dhRespond(
    context,
    { ...own, kemKind: 'one-time', identityKey: exchangeKeys[0]! },
    header,
  )
  const headerBytes = encodeKnockHeader(header)
  const knock = jsonOf(mallory)
  changes(knock)
  const signer = options.signer ?? sender
  knock['signature'] = toBase64(
    sign(
      options.label ?? 'knock',
      signer.identity.signing.secretKey,
      transcript,
      headerBytes,
      unsignedBytes(knock),
    ),
  )
  const place = knockAssociatedData(headerBytes, sender.identity.amid, bob.identity.amid)
  const nonce = testRandom('seal')(24)
  const sealed = aeadEncrypt(keys.knockKey, nonce, utf8Bytes(JSON.stringify(knock)), place)
  return encodeKnockPacket(headerBytes, concatBytes(nonce, sealed))
}

/** The JSON of a KNOCK that `from` would send to Bob. */
function jsonOf(from: TestAgent): JsonObject {
  const made = knockOn(from, bob.verifiedBundle()).packet
  return structuredClone<unknown>(bob.open(made, from).knock) as JsonObject
}

/** Opens as Bob, expects the code, and sees that nothing of Bob's was touched. */
function expectRefused(code: string, forged: Uint8Array, from: TestAgent = mallory, now = NOW): void {
  expect(outcome(() => bob.open(forged, from, now))).toBe(code)
  expect(bob.usedUp.size + bob.seenHeaders.size).toBe(0)
}

describe('a KNOCK', () => {
  it('by the forger’s own hand, with nothing changed, opens: the cases below fail for what they change', () => {
    expect(
      bob.open(
        forgedKnock(() => {}),
        mallory,
      ).from,
    ).toBe(mallory.identity.amid)
  })

  it('replayed to somebody else does not open', () => {
    expect(outcome(() => mallory.open(packet, alice))).toBe('DECRYPTION_FAILED')
  })

  it('replayed to its receiver is known by its header before any public-key work', () => {
    const busy = new TestAgent('bob')
    busy.seenHeaders.add(opened.headerHash.join())
    expect(outcome(() => busy.open(packet, alice))).toBe('KNOCK_REPLAYED')
  })

  it('replayed to its receiver names a one-time prekey that is gone', () => {
    const busy = new TestAgent('bob')
    busy.usedUp.add(busy.oneTime)
    expect(outcome(() => busy.open(packet, alice))).toBe('PREKEY_UNKNOWN')
  })

  it('replayed without one-time keys shows the nonce its receiver has kept', () => {
    const again = knockOn(alice, bob.verifiedBundle(false)).packet
    expect(bob.open(again, alice).nonce).toEqual(bob.open(again, alice).nonce)
  })

  it('names prekeys that were never ours', () => {
    const { header, sealedKnock } = decodeKnockPacket(packet)
    const changes = [
      { signedPrekeyId: 99 },
      { oneTimePrekeyId: 99 },
      { kemPrekeyId: 99 },
      { exchangeKeySequence: 99 },
      { exchangeKeySequence: header.exchangeKeySequence + 2 ** 31 },
    ]
    for (const change of changes) {
      const renamed = encodeKnockHeader({ ...header, ...change })
      expectRefused('PREKEY_UNKNOWN', encodeKnockPacket(renamed, sealedKnock), alice)
    }
  })

  it('whose `to` was changed by its sender is refused', () => {
    expectRefused(
      'KNOCK_NOT_FOR_US',
      forgedKnock((knock) => (knock['to'] = alice.identity.amid)),
    )
  })

  it('that one agent relays as its own does not open (unknown key share)', () => {
    expectRefused('DECRYPTION_FAILED', packet, mallory)
  })

  it('under an exchange key that somebody else signed is refused (unknown key share)', () => {
    expectRefused(
      'AMID_MISMATCH',
      forgedKnock((knock) => (knock['exchange_key'] = jsonOf(alice)['exchange_key']!)),
    )
  })

  it('under an exchange key of its sender other than the header’s is refused', () => {
    const other = mallory.previousExchange.record as unknown as JsonObject
    expectRefused(
      'INVALID_SIGNATURE',
      forgedKnock((knock) => (knock['exchange_key'] = other)),
    )
  })

  it('in the name of another AMID does not match the key that signed it', () => {
    expectRefused(
      'AMID_MISMATCH',
      forgedKnock(() => {}, { as: alice, signer: mallory }),
      alice,
    )
    const claim = (knock: JsonObject) => (knock['from'] = { amid: alice.identity.amid, tier: 2 })
    expectRefused('AMID_MISMATCH', forgedKnock(claim))
  })

  it('in the name of another AMID, with keys that agree with each other, does not match', () => {
    const claim = (knock: JsonObject) => (knock['from'] = { amid: alice.identity.amid, tier: 2 })
    expectRefused('AMID_MISMATCH', forgedKnock(claim, { as: alice, signer: mallory }), alice)
  })

  it('with somebody else’s public key is not signed by it', () => {
    const victim = jsonOf(alice)
    const claim = (knock: JsonObject) => {
      knock['from'] = { amid: alice.identity.amid, tier: 2 }
      knock['signing_public_key'] = victim['signing_public_key']!
      knock['exchange_key'] = victim['exchange_key']!
    }
    expectRefused('INVALID_SIGNATURE', forgedKnock(claim, { as: alice, signer: mallory }), alice)
  })

  it('signed under another label is refused', () => {
    expectRefused(
      'INVALID_SIGNATURE',
      forgedKnock(() => {}, { label: 'accept' }),
    )
  })

  it('whose sender the relay changed does not open', () => {
    expectRefused('DECRYPTION_FAILED', packet, mallory)
    expectRefused(
      'DECRYPTION_FAILED',
      forgedKnock(() => {}),
      alice,
    )
  })

  it('whose version list the relay changed does not open', () => {
    const { header, sealedKnock } = decodeKnockPacket(packet)
    const lowered = encodeKnockHeader({ ...header, versions: ['agentmesh/0.1', 'agentmesh/0.2'] })
    expectRefused('DECRYPTION_FAILED', encodeKnockPacket(lowered, sealedKnock), alice)
  })

  it('made from a bundle whose version list was changed does not open', () => {
    const bundle = bob.verifiedBundle()
    const lied = {
      ...bundle,
      signedPrekey: { ...bundle.signedPrekey, versions: ['agentmesh/0.1', 'agentmesh/0.2'] },
    }
    expectRefused('DECRYPTION_FAILED', knockOn(alice, lied).packet, alice)
  })

  it('that chooses a version below the best common one is refused', () => {
    const lower = (knock: JsonObject) => (knock['protocol_version'] = 'agentmesh/0.1')
    const header = { versions: ['agentmesh/0.2', 'agentmesh/0.1'] }
    expectRefused('UNSUPPORTED_VERSION', forgedKnock(lower, { header }))
  })

  it('of an unknown suite is refused before any key is looked up', () => {
    expectRefused('UNSUPPORTED_VERSION', Uint8Array.of(2, ...packet.subarray(1)), alice)
  })

  it('that expired is refused, and until then it is not', () => {
    expect(outcome(() => bob.open(packet, alice, NOW + 72 * HOUR))).toBe('ok')
    expectRefused('KNOCK_EXPIRED', packet, alice, NOW + 72 * HOUR + 300_001)
  })

  it('from the future, of no duration, or longer than nonces are kept is refused', () => {
    const times = (sent: number, expires: number) => (knock: JsonObject) => {
      knock['timestamp'] = formatTimestamp(NOW + sent)
      knock['expires_at'] = formatTimestamp(NOW + expires)
    }
    expectRefused('KNOCK_EXPIRED', forgedKnock(times(300_001, HOUR)))
    expectRefused('KNOCK_EXPIRED', forgedKnock(times(0, 0)))
    expectRefused('KNOCK_EXPIRED', forgedKnock(times(0, 72 * HOUR + 1)))
  })

  it('decided too late is not accepted', () => {
    const late = environment('accept', NOW + 73 * HOUR)
    expect(outcome(() => createAccept(opened, acceptTerms(opened, bob), late))).toBe('KNOCK_EXPIRED')
  })

  it('over 8 KiB is neither made nor read', () => {
    const chain = (size: number) => (knock: JsonObject) => (knock['certificate_chain'] = ['A'.repeat(size)])
    expect(outcome(() => bob.open(forgedKnock(chain(2000)), mallory))).toBe('ok')
    const padding = (knock: JsonObject) => (knock['x'] = 'A'.repeat(6000))
    expect(outcome(() => forgedKnock(padding))).toBe('TOO_LARGE')
    const { headerBytes } = decodeKnockPacket(packet)
    const length = Uint8Array.of(0x20, 0x00)
    expectRefused('TOO_LARGE', concatBytes(headerBytes, length, new Uint8Array(0x2000)), alice)
  })

  it('with a weak ephemeral key is refused', () => {
    const { header, sealedKnock } = decodeKnockPacket(packet)
    const weak = encodeKnockHeader({ ...header, ephemeralKey: new Uint8Array(32) })
    expectRefused('WEAK_SHARED_SECRET', encodeKnockPacket(weak, sealedKnock), alice)
  })

  it('made for another exchange key than the one it names does not open', () => {
    const { header, sealedKnock } = decodeKnockPacket(packet)
    const older = encodeKnockHeader({ ...header, exchangeKeySequence: 1 })
    expectRefused('DECRYPTION_FAILED', encodeKnockPacket(older, sealedKnock), alice)
  })

  it('in order but for a ratchet key of small order is refused', () => {
    const ratchetKey = new Uint8Array(32)
    expectRefused(
      'WEAK_SHARED_SECRET',
      forgedKnock(() => {}, { header: { ratchetKey } }),
    )
  })

  it('in order but for a KEM key that is none is refused', () => {
    const changes = (knock: JsonObject) =>
      (knock['kem_public_key'] = formatKey('mlkem768', new Uint8Array(1184).fill(0xff)))
    expectRefused('INVALID_KEY', forgedKnock(changes))
  })

  it('with unknown signed fields opens; with one added after signing it does not', () => {
    const extra = (knock: JsonObject) => (knock['x_note'] = 'signed too')
    expect(outcome(() => bob.open(forgedKnock(extra), mallory))).toBe('ok')
    const inner = sealedJson()
    expectRefused('INVALID_SIGNATURE', reseal({ ...inner.json, x_note: 'not signed' }), alice)
  })

  it('that is not strict JSON is refused', () => {
    const { json } = sealedJson()
    const text = JSON.stringify(json)
    expectRefused('JSON_DUPLICATE_KEY', resealText(`${text.slice(0, -1)},"to":"x"}`), alice)
    expectRefused('JSON_FORBIDDEN_KEY', resealText(`${text.slice(0, -1)},"__proto__":{}}`), alice)
    expectRefused('MALFORMED', resealText('[]'), alice)
  })

  it('with any byte changed does not open', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: packet.length - 1 }), (index) => {
        expect(outcome(() => bob.open(flipped(packet, index), alice))).not.toBe('ok')
        expect(outcome(() => bob.open(packet.subarray(0, index), alice))).not.toBe('ok')
      }),
      { numRuns: 150 },
    )
    expect(outcome(() => bob.open(packet, alice))).toBe('ok')
  })
})

/** The inside of Alice's genuine KNOCK: what Bob himself could read, and nobody else. */
function sealedJson(): { json: JsonObject } {
  const { headerBytes, sealedKnock } = decodeKnockPacket(packet)
  const place = knockAssociatedData(headerBytes, alice.identity.amid, bob.identity.amid)
  const plaintext = aeadDecrypt(
    opened.keys.knockKey,
    sealedKnock.subarray(0, 24),
    sealedKnock.subarray(24),
    place,
  )
  return { json: parseJsonObject(plaintext!, 10_000) }
}

function reseal(json: JsonObject): Uint8Array {
  return resealText(JSON.stringify(json))
}

function resealText(text: string): Uint8Array {
  const { headerBytes } = decodeKnockPacket(packet)
  const place = knockAssociatedData(headerBytes, alice.identity.amid, bob.identity.amid)
  const nonce = testRandom('reseal')(24)
  const sealed = aeadEncrypt(opened.keys.knockKey, nonce, utf8Bytes(text), place)
  return encodeKnockPacket(headerBytes, concatBytes(nonce, sealed))
}

/** An answer by somebody who holds Bob's session keys: fields changed, signed by `signer`, sealed for `type`. */
function forgedAnswer(
  changes: Readonly<Record<string, unknown>>,
  options: {
    type?: 'accept' | 'reject'
    signer?: TestAgent
    label?: 'accept' | 'reject'
    of?: OpenedKnock
  } = {},
): Uint8Array {
  const knock = options.of ?? opened
  const type = options.type ?? 'accept'
  const env = environment('accept')
  const ratchet = ratchetRespond(knock.keys, knock.ratchetKey, knock.kemKey, env)
  const terms = acceptTerms(knock, bob)
  const unsigned = {
    type: 'accept',
    session_id: deriveSessionId(ratchet, knock.transcript),
    protocol_version: knock.version,
    nonce: toBase64(knock.nonce),
    knock_hash: toBase64(knock.knockHash),
    session_key: toBase64(
      keyConfirmation(ratchet, knock.transcript, deriveSessionId(ratchet, knock.transcript)),
    ),
    constraints: terms.constraints,
    one_time_prekey_used: true,
    timestamp: formatTimestamp(NOW),
    ...changes,
  }
  const signature = sign(
    options.label ?? type,
    (options.signer ?? bob).identity.signing.secretKey,
    knock.transcript,
    amidToBytes(alice.identity.amid),
    amidToBytes(bob.identity.amid),
    ownRatchetKey(ratchet)!,
    canonicalBytes(unsigned),
  )
  const place = {
    type,
    version: knock.version,
    context: knock.knockHash,
    from: bob.identity.amid,
    to: alice.identity.amid,
  }
  const text = JSON.stringify({ ...unsigned, signature: toBase64(signature) })
  const { message } = ratchetEncrypt(ratchet, utf8Bytes(text), associatedData(place), env)
  return encodeAnswerPacket({ knockHash: knock.knockHash, ratchetMessage: message })
}

/** B's ratchet as the forged answers have it. */
function responded() {
  const { keys, ratchetKey, kemKey, transcript } = opened
  return { ratchet: ratchetRespond(keys, ratchetKey, kemKey, environment('accept')), transcript }
}

function answered(
  answer: Uint8Array,
  type: 'accept' | 'reject' = 'accept',
  to: PendingKnock = pending,
): string {
  const before = encodeRatchetState(to.ratchet)
  const result = outcome(() => consumeAnswer(to, type, answer, environment('answer')))
  expect(equalBytes(encodeRatchetState(to.ratchet), before)).toBe(true)
  return result
}

describe('an answer', () => {
  it('by the forger’s own hand, with nothing changed, is read', () => {
    expect(answered(forgedAnswer({}))).toBe('ok')
  })

  it('ACCEPT forged by a relay is not read', () => {
    const random = testRandom('relay')
    const noise = encodeAnswerPacket({ knockHash: pending.knockHash, ratchetMessage: random(2600) })
    expect(answered(noise)).toBe('MALFORMED')
    const shaped = concatBytes(accepted.packet.subarray(0, 34), random(accepted.packet.length - 34))
    expect(answered(shaped)).toBe('DECRYPTION_FAILED')
  })

  it('ACCEPT signed by somebody else is refused', () => {
    expect(answered(forgedAnswer({}, { signer: mallory }))).toBe('INVALID_SIGNATURE')
    expect(answered(forgedAnswer({}, { label: 'reject' }))).toBe('INVALID_SIGNATURE')
  })

  it('ACCEPT that names any other session than the one of its keys is refused, right in everything else', () => {
    const { ratchet, transcript } = responded()
    const stolen = meet(CONVERSATION, alice, mallory).atAlice.id
    for (const session_id of [stolen, newSessionId(testRandom('chosen'))]) {
      const session_key = toBase64(keyConfirmation(ratchet, transcript, session_id))
      expect(answered(forgedAnswer({ session_id, session_key }))).toBe('ANSWER_MISMATCH')
    }
  })

  it('ACCEPT of another KNOCK is refused, also under this one’s hash', () => {
    const other = knockOn(alice, bob.verifiedBundle(), {}, environment('second'))
    expect(answered(accepted.packet, 'accept', other.pending)).toBe('ANSWER_MISMATCH')
    const renamed = concatBytes(other.pending.knockHash, accepted.packet.subarray(32))
    expect(answered(renamed, 'accept', other.pending)).toBe('DECRYPTION_FAILED')
    const nonce = toBase64(other.pending.nonce)
    expect(answered(forgedAnswer({ nonce }))).toBe('ANSWER_MISMATCH')
    expect(answered(forgedAnswer({ knock_hash: nonce }))).toBe('ANSWER_MISMATCH')
  })

  it('REJECT forged by the relay is not read', () => {
    const relayed = concatBytes(pending.knockHash, flipped(rejected.subarray(32), 40))
    expect(answered(relayed, 'reject')).toBe('DECRYPTION_FAILED')
    expect(answered(accepted.packet, 'reject')).toBe('DECRYPTION_FAILED')
  })

  it('REJECT turned into an ACCEPT is not read', () => {
    expect(answered(rejected, 'accept')).toBe('DECRYPTION_FAILED')
    const relabelled = forgedAnswer({ type: 'reject' }, { type: 'accept' })
    expect(answered(relabelled, 'accept')).toBe('MALFORMED')
  })

  it('choosing a version below the best common one is refused', () => {
    expect(answered(forgedAnswer({ protocol_version: 'agentmesh/0.1' }))).toBe('UNSUPPORTED_VERSION')
    const better = { ...pending, version: 'agentmesh/0.3' }
    expect(answered(accepted.packet, 'accept', better)).toBe('DECRYPTION_FAILED')
  })

  it('that does not prove the session key is refused', () => {
    expect(answered(forgedAnswer({ session_key: toBase64(new Uint8Array(32)) }))).toBe('MALFORMED')
  })

  it('that hides that no one-time key was used is refused', () => {
    expect(answered(forgedAnswer({ one_time_prekey_used: false }))).toBe('MALFORMED')
  })

  it('that grants more time than was asked is refused', () => {
    const constraints = { max_message_size_bytes: 1000, max_messages: 5, ttl_seconds: 3601 }
    expect(answered(forgedAnswer({ constraints }))).toBe('MALFORMED')
  })

  it('from before its KNOCK or from the future is refused', () => {
    const at = (time: number) => forgedAnswer({ timestamp: formatTimestamp(time) })
    expect(answered(at(NOW - 300_001))).toBe('TIME_IMPLAUSIBLE')
    expect(answered(at(NOW + 300_001))).toBe('TIME_IMPLAUSIBLE')
  })

  it('with any byte changed is not read and leaves the pending KNOCK as it was', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: accepted.packet.length - 1 }), (index) => {
        expect(answered(flipped(accepted.packet, index))).not.toBe('ok')
        expect(answered(accepted.packet.subarray(0, index))).not.toBe('ok')
      }),
      { numRuns: 150 },
    )
    expect(answered(accepted.packet)).toBe('ok')
  })
})
