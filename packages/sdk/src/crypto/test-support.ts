/**
 * What the tests of crypto/, the vectors and the benchmark share: repeatable randomness and a finished handshake.
 * Not for use outside tests: its random bytes are known to everybody.
 */
import {
  AEAD_NONCE_BYTES,
  aeadEncrypt,
  concatBytes,
  hkdfExpandSha256,
  kemKeyPair,
  sha256,
  x25519KeyPair,
} from './primitives.ts'
import type { KeyPair, RandomBytes } from './primitives.ts'
import { ratchetInitiate, ratchetRespond, type RatchetEnvironment } from './ratchet.ts'
import { encodeFrame, encodeHeader } from './ratchet-header.ts'
import type { RatchetState } from './ratchet-state.ts'
import { systemRandom } from './signing.ts'
import { x3dhInitiate, x3dhRespond, type KemKind, type X3dhContext, type X3dhKeys } from './x3dh.ts'

/** The same bytes for the same seed and the same sequence of lengths. */
export function seededRandom(seed: string): RandomBytes {
  const key = sha256(new TextEncoder().encode(seed))
  let draw = 0
  return (length) => {
    const info = Uint8Array.of(draw >>> 24, draw >>> 16, draw >>> 8, draw)
    draw += 1
    return hkdfExpandSha256(key, info, length)
  }
}

export interface HandshakeParty {
  readonly identityKey: KeyPair
  readonly signedPrekey: KeyPair
  readonly oneTimePrekey?: KeyPair
  readonly kemKey: KeyPair
  readonly kemKind: KemKind
}

/** B's keys. Draws the secrets of IK_B, SPK_B, the KEM seed and then, if wanted, OPK_B. */
export function makeResponder(
  random: RandomBytes,
  kemKind: KemKind,
  withOneTimePrekey: boolean,
): HandshakeParty {
  const party = {
    identityKey: x25519KeyPair(random(32)),
    signedPrekey: x25519KeyPair(random(32)),
    kemKey: kemKeyPair(random(64)),
    kemKind,
  }
  return withOneTimePrekey ? { ...party, oneTimePrekey: x25519KeyPair(random(32)) } : party
}

/** The public half, as a bundle would give it. */
export function bundleOf(party: HandshakeParty) {
  return {
    identityKey: party.identityKey.publicKey,
    signedPrekey: party.signedPrekey.publicKey,
    kemKey: party.kemKey.publicKey,
    kemKind: party.kemKind,
    ...(party.oneTimePrekey === undefined ? {} : { oneTimePrekey: party.oneTimePrekey.publicKey }),
  }
}

export const TEST_CONTEXT: X3dhContext = {
  initiator: new Uint8Array(20).fill(0xaa),
  responder: new Uint8Array(20).fill(0xbb),
  initiatorVersions: ['agentmesh/0.2'],
  responderVersions: ['agentmesh/0.2'],
}

/** Both ends of a ratchet after a whole handshake; B is about to send its ACCEPT. */
export function makeSession(environment: RatchetEnvironment): {
  readonly keys: X3dhKeys
  readonly a: RatchetState
  readonly b: RatchetState
} {
  const { random } = environment
  const identity = x25519KeyPair(random(32))
  const responder = makeResponder(random, 'one-time', true)
  const initiation = x3dhInitiate(TEST_CONTEXT, identity, bundleOf(responder), random)
  const response = x3dhRespond(TEST_CONTEXT, responder, {
    identityKey: identity.publicKey,
    ephemeralKey: initiation.ephemeralKey,
    ratchetKey: initiation.ratchetKeyPair.publicKey,
    kemCiphertext: initiation.kemCiphertext,
  })
  const kem = kemKeyPair(random(64))
  return {
    keys: initiation.keys,
    a: ratchetInitiate(initiation.keys, initiation.ratchetKeyPair, kem),
    b: ratchetRespond(response.keys, initiation.ratchetKeyPair.publicKey, kem.publicKey, environment),
  }
}

export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const changed = concatBytes(bytes)
  changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return changed
}

/**
 * A message that a peer makes up on its own chain: the header opens and names a place as far ahead as it likes; the body
 * never opens.
 */
export function junkMessage({ turn, previousCounter }: RatchetState, ahead: number): Uint8Array {
  if (turn.kind !== 'sending') throw new Error('The peer has no chain: it must have said something')
  const { ownRatchet, chain } = turn
  const nonce = systemRandom(AEAD_NONCE_BYTES)
  const header = encodeHeader({
    ratchetKey: ownRatchet.publicKey,
    previousCounter,
    counter: chain.counter + ahead,
    kemStep: chain.kemStep,
  })
  const sealedHeader = aeadEncrypt(chain.headerKey, nonce, header, new Uint8Array(0))
  return encodeFrame({ nonce, sealedHeader, ciphertext: systemRandom(64) })
}
