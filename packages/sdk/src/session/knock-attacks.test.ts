/** What somebody between two agents, or one of them, may try in a handshake. Every case ends with nothing changed. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  aeadDecrypt,
  aeadEncrypt,
  concatBytes,
  sign,
  x3dhInitiate,
  x3dhRespond,
  type SigningLabel,
  x25519KeyPair,
  sha256,
} from '../crypto/index.ts'
import { UnusableKnock } from './knock-responder.ts'
import {
  amidToBytes,
  decodeKnockPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  formatKey,
  formatTimestamp,
  parseJsonObject,
  toBase64,
  unsignedBytes,
  utf8Bytes,
  type JsonObject,
  type KnockHeader,
} from '../wire/index.ts'
import { knockAssociatedData } from './handshake.ts'
import { createAccept } from './knock-answer.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import { acceptTerms, environment, flipped, knockOn, TestAgent } from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const mallory = new TestAgent('mallory')
const { packet } = knockOn(alice, bob.verifiedBundle())
const opened = bob.open(packet, alice)

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

  it('that no ratchet can begin with is refused with what to know it by; one that nobody signed is not', () => {
    const unusable = forgedKnock(() => {}, { header: { ratchetKey: new Uint8Array(32) } })
    const refusal = (forged: Uint8Array, from: TestAgent): unknown => {
      try {
        return bob.open(forged, from)
      } catch (error) {
        return error
      }
    }
    const { headerBytes, header, sealedKnock } = decodeKnockPacket(unusable)
    const error = refusal(unusable, mallory)
    expect(error).toBeInstanceOf(UnusableKnock)
    const { kept } = error as UnusableKnock
    expect(kept.headerHash).toEqual(sha256(headerBytes))
    expect(kept.forgetAfter).toBeGreaterThan(NOW)
    const again = new TestAgent('bob')
    again.seenHeaders.add(kept.headerHash.join())
    expect(outcome(() => again.open(unusable, mallory))).toBe('KNOCK_REPLAYED')
    const weak = encodeKnockHeader({ ...header, ephemeralKey: new Uint8Array(32) })
    expect(refusal(encodeKnockPacket(weak, sealedKnock), mallory)).not.toBeInstanceOf(UnusableKnock)
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
