/**
 * Post-quantum X3DH: the key agreement inside KNOCK (specification 5, DESIGN 7.1).
 *
 * The initiator A has fetched the responder B's bundle. From it and three secrets of its own A computes
 *
 *     th   = SHA-256(lengthPrefixed("agentmesh/0.2 x3dh transcript", suite u16, AMID_A, AMID_B, IK_A, IK_B, SPK_B,
 *            0x00 | 0x01 || OPK_B, 0x01 one-time | 0x02 last-resort, KEM_B, EK_A, RK_A, CT, versions A, versions B))
 *     ikm  = DH(IK_A, SPK_B) || DH(EK_A, IK_B) || DH(EK_A, SPK_B) || [DH(EK_A, OPK_B)] || SS
 *     root = HKDF-SHA-256(ikm, no salt, "agentmesh/0.2 x3dh root" || th, 32)
 *
 * and from the root each of the five keys under a label of its own. B computes the same from the KNOCK's clear header.
 * Nothing is authenticated by this module alone: the bundle's signatures are checked before, the KNOCK's after.
 *
 * The initiator keeps neither EK_A's secret nor the root: a KNOCK may wait 72 hours in a mailbox, and a machine seized in
 * that time must not open it.
 */
import { AgentMeshError } from '../wire/errors.ts'
import { SUITE_X25519_MLKEM768 } from './constants.ts'
import {
  KEM_CIPHERTEXT_BYTES,
  KEM_PUBLIC_KEY_BYTES,
  concatBytes,
  hkdfExpandSha256,
  hkdfSha256,
  kemDecapsulate,
  kemEncapsulate,
  sha256,
  x25519,
  x25519KeyPair,
  zero,
  type KeyPair,
  type RandomBytes,
} from './primitives.ts'
import { lengthPrefixed } from './signing.ts'

/** A one-time KEM prekey serves one KNOCK; the last-resort one serves all who come when those have run out. */
export type KemKind = 'one-time' | 'last-resort'

/** The responder's keys, from a bundle whose signatures have been verified. */
export interface X3dhPeer {
  /** IK_B, X25519, 32 bytes. */
  readonly identityKey: Uint8Array
  /** SPK_B, X25519, 32 bytes. */
  readonly signedPrekey: Uint8Array
  /** OPK_B, X25519, 32 bytes; absent when the bundle had none left. */
  readonly oneTimePrekey?: Uint8Array
  /** ML-KEM-768, 1184 bytes. */
  readonly kemKey: Uint8Array
  readonly kemKind: KemKind
}

/** What both sides must agree on besides keys. */
export interface X3dhContext {
  /** The 20 bytes of A's AMID. */
  readonly initiator: Uint8Array
  /** The 20 bytes of B's AMID. */
  readonly responder: Uint8Array
  readonly initiatorVersions: readonly string[]
  readonly responderVersions: readonly string[]
}

/** Five keys of 32 bytes, independent of each other. */
export interface X3dhKeys {
  /** Encrypts the KNOCK. */
  readonly knockKey: Uint8Array
  /** Encrypts a message sent along with the KNOCK. */
  readonly optimisticKey: Uint8Array
  /** The Double Ratchet's first root key. */
  readonly chainKey: Uint8Array
  /** Encrypts the headers of the initiator's first sending chain. */
  readonly initiatorHeaderKey: Uint8Array
  /** Encrypts the headers of the responder's first sending chain, which carries ACCEPT or REJECT. */
  readonly responderHeaderKey: Uint8Array
}

export interface X3dhInitiation {
  /** EK_A, public half; the secret is gone. */
  readonly ephemeralKey: Uint8Array
  /** RK_A, the initiator's first ratchet key. */
  readonly ratchetKeyPair: KeyPair
  readonly kemCiphertext: Uint8Array
  /** th, 32 bytes: signed inside the KNOCK. */
  readonly transcript: Uint8Array
  readonly keys: X3dhKeys
}

/** The responder's own key pairs, found by the prekey ids of the KNOCK. */
export interface X3dhResponder {
  readonly identityKey: KeyPair
  readonly signedPrekey: KeyPair
  readonly oneTimePrekey?: KeyPair
  readonly kemKey: KeyPair
  readonly kemKind: KemKind
}

/** What the KNOCK's clear header says of the initiator. */
export interface X3dhOffer {
  readonly identityKey: Uint8Array
  readonly ephemeralKey: Uint8Array
  readonly ratchetKey: Uint8Array
  readonly kemCiphertext: Uint8Array
}

export interface X3dhResponse {
  readonly transcript: Uint8Array
  readonly keys: X3dhKeys
}

const utf8 = new TextEncoder()
const TRANSCRIPT_LABEL = utf8.encode('agentmesh/0.2 x3dh transcript')
const ROOT_LABEL = utf8.encode('agentmesh/0.2 x3dh root')
const KNOCK_LABEL = utf8.encode('agentmesh/0.2 x3dh knock')
const OPTIMISTIC_LABEL = utf8.encode('agentmesh/0.2 x3dh optimistic')
const CHAIN_LABEL = utf8.encode('agentmesh/0.2 x3dh chain')
const INITIATOR_HEADER_LABEL = utf8.encode('agentmesh/0.2 x3dh initiator header')
const RESPONDER_HEADER_LABEL = utf8.encode('agentmesh/0.2 x3dh responder header')

const SUITE = Uint8Array.of(SUITE_X25519_MLKEM768 >> 8, SUITE_X25519_MLKEM768 & 0xff)
const NO_ONE_TIME_PREKEY = Uint8Array.of(0x00)
const ONE_TIME_PREKEY = Uint8Array.of(0x01)
const KEM_KIND: Readonly<Record<KemKind, Uint8Array>> = {
  'one-time': Uint8Array.of(0x01),
  'last-resort': Uint8Array.of(0x02),
}

function requireBytes(bytes: Uint8Array, length: number, what: string): void {
  if (bytes.length !== length) {
    throw new AgentMeshError('INVALID_KEY', `${what} has ${bytes.length} bytes, not ${length}`, {
      operation: 'agree on session keys',
    })
  }
}

function versionList(versions: readonly string[]): Uint8Array {
  return lengthPrefixed(...versions.map((version) => utf8.encode(version)))
}

/** th. Every item stands with its length, so no two handshakes have the same input. */
function transcriptHash(context: X3dhContext, peer: X3dhPeer, offer: X3dhOffer): Uint8Array {
  requireBytes(context.initiator, 20, "the initiator's AMID")
  requireBytes(context.responder, 20, "the responder's AMID")
  requireBytes(offer.identityKey, 32, 'IK_A')
  requireBytes(peer.identityKey, 32, 'IK_B')
  requireBytes(peer.signedPrekey, 32, 'SPK_B')
  if (peer.oneTimePrekey !== undefined) requireBytes(peer.oneTimePrekey, 32, 'OPK_B')
  requireBytes(peer.kemKey, KEM_PUBLIC_KEY_BYTES, "the responder's KEM key")
  requireBytes(offer.ephemeralKey, 32, 'EK_A')
  requireBytes(offer.ratchetKey, 32, 'RK_A')
  requireBytes(offer.kemCiphertext, KEM_CIPHERTEXT_BYTES, 'the KEM ciphertext')
  return sha256(
    lengthPrefixed(
      TRANSCRIPT_LABEL,
      SUITE,
      context.initiator,
      context.responder,
      offer.identityKey,
      peer.identityKey,
      peer.signedPrekey,
      peer.oneTimePrekey === undefined
        ? NO_ONE_TIME_PREKEY
        : concatBytes(ONE_TIME_PREKEY, peer.oneTimePrekey),
      KEM_KIND[peer.kemKind],
      peer.kemKey,
      offer.ephemeralKey,
      offer.ratchetKey,
      offer.kemCiphertext,
      versionList(context.initiatorVersions),
      versionList(context.responderVersions),
    ),
  )
}

/** The five keys. Overwrites the agreements, which nobody needs again. */
function deriveKeys(agreements: readonly Uint8Array[], transcript: Uint8Array): X3dhKeys {
  const ikm = concatBytes(...agreements)
  const root = hkdfSha256(ikm, new Uint8Array(0), concatBytes(ROOT_LABEL, transcript), 32)
  const keys = {
    knockKey: hkdfExpandSha256(root, KNOCK_LABEL, 32),
    optimisticKey: hkdfExpandSha256(root, OPTIMISTIC_LABEL, 32),
    chainKey: hkdfExpandSha256(root, CHAIN_LABEL, 32),
    initiatorHeaderKey: hkdfExpandSha256(root, INITIATOR_HEADER_LABEL, 32),
    responderHeaderKey: hkdfExpandSha256(root, RESPONDER_HEADER_LABEL, 32),
  }
  zero(ikm, root, ...agreements)
  return keys
}

/**
 * A's side. `identity` is A's X25519 exchange key pair. Draws, in this order, 32 bytes for EK_A, 32 for RK_A and 32 for the
 * KEM coins. Throws INVALID_KEY for a malformed key and WEAK_SHARED_SECRET when an agreement is all zero.
 */
export function x3dhInitiate(
  context: X3dhContext,
  identity: KeyPair,
  peer: X3dhPeer,
  random: RandomBytes,
): X3dhInitiation {
  const ephemeral = x25519KeyPair(random(32))
  const ratchetKeyPair = x25519KeyPair(random(32))
  const coins = random(32)
  const { ciphertext, sharedSecret } = kemEncapsulate(peer.kemKey, coins)
  zero(coins)
  const transcript = transcriptHash(context, peer, {
    identityKey: identity.publicKey,
    ephemeralKey: ephemeral.publicKey,
    ratchetKey: ratchetKeyPair.publicKey,
    kemCiphertext: ciphertext,
  })
  const agreements = [
    x25519(identity.secretKey, peer.signedPrekey),
    x25519(ephemeral.secretKey, peer.identityKey),
    x25519(ephemeral.secretKey, peer.signedPrekey),
    ...(peer.oneTimePrekey === undefined ? [] : [x25519(ephemeral.secretKey, peer.oneTimePrekey)]),
    sharedSecret,
  ]
  zero(ephemeral.secretKey)
  return {
    ephemeralKey: ephemeral.publicKey,
    ratchetKeyPair,
    kemCiphertext: ciphertext,
    transcript,
    keys: deriveKeys(agreements, transcript),
  }
}

/**
 * B's side. That the keys agree shows only when the KNOCK opens under `knockKey`. Throws INVALID_KEY for a malformed key and
 * WEAK_SHARED_SECRET when an agreement is all zero.
 */
export function x3dhRespond(context: X3dhContext, own: X3dhResponder, peer: X3dhOffer): X3dhResponse {
  const transcript = transcriptHash(
    context,
    {
      identityKey: own.identityKey.publicKey,
      signedPrekey: own.signedPrekey.publicKey,
      ...(own.oneTimePrekey === undefined ? {} : { oneTimePrekey: own.oneTimePrekey.publicKey }),
      kemKey: own.kemKey.publicKey,
      kemKind: own.kemKind,
    },
    peer,
  )
  const agreements = [
    x25519(own.signedPrekey.secretKey, peer.identityKey),
    x25519(own.identityKey.secretKey, peer.ephemeralKey),
    x25519(own.signedPrekey.secretKey, peer.ephemeralKey),
    ...(own.oneTimePrekey === undefined ? [] : [x25519(own.oneTimePrekey.secretKey, peer.ephemeralKey)]),
    kemDecapsulate(own.kemKey.secretKey, peer.kemCiphertext),
  ]
  return { transcript, keys: deriveKeys(agreements, transcript) }
}
