/**
 * The ratchet header, and the frame of a ratchet message (DESIGN 7; Signal's Double Ratchet, revision 3, section 4).
 *
 *     message       = u16 length of sealed header || nonce (24) || sealed header || ciphertext
 *     sealed header = XChaCha20-Poly1305(header key, nonce, header, no associated data)
 *     header        = flags u8 || ratchet key (32) || PN u32 || N u32 [ || KEM ciphertext (1088) || KEM public key (1184) ]
 *     ciphertext    = XChaCha20-Poly1305(message key, nonce, plaintext, caller's associated data || sealed header)
 *
 * Integers are big-endian. Flag 0x01 says that the KEM step follows; all other flags are zero. A message key encrypts once,
 * so its nonce could be constant; the random one limits the damage of a restored backup to what the keys themselves tell.
 */
import { AgentMeshError } from '../wire/errors.ts'
import { HEADER_BYTES, HEADER_WITH_KEM_BYTES, MAX_CHAIN_MESSAGES } from './constants.ts'
import { AEAD_NONCE_BYTES, AEAD_TAG_BYTES, KEM_CIPHERTEXT_BYTES } from './primitives.ts'

const FLAG_KEM_STEP = 0x01
const RATCHET_KEY_AT = 1
const PREVIOUS_COUNTER_AT = 33
const COUNTER_AT = 37
const LENGTH_BYTES = 2

/** One post-quantum step: a secret for the peer's KEM key, and the key for the peer's next step. */
export interface KemStep {
  /** 1088 bytes. */
  readonly ciphertext: Uint8Array
  /** 1184 bytes. */
  readonly publicKey: Uint8Array
}

export interface RatchetHeader {
  /** The sender's X25519 ratchet key of this chain. */
  readonly ratchetKey: Uint8Array
  /** PN: the number of messages in the sender's previous chain. */
  readonly previousCounter: number
  /** N: this message's place in its chain, from 0. */
  readonly counter: number
  /** Present in every message of a chain that began with a KEM step. */
  readonly kemStep: KemStep | undefined
}

/** The parts of a message, as views into it. */
export interface RatchetFrame {
  readonly nonce: Uint8Array
  readonly sealedHeader: Uint8Array
  readonly ciphertext: Uint8Array
}

export function encodeHeader(header: RatchetHeader): Uint8Array {
  const { kemStep } = header
  const bytes = new Uint8Array(kemStep === undefined ? HEADER_BYTES : HEADER_WITH_KEM_BYTES)
  const view = new DataView(bytes.buffer)
  bytes[0] = kemStep === undefined ? 0 : FLAG_KEM_STEP
  bytes.set(header.ratchetKey, RATCHET_KEY_AT)
  view.setUint32(PREVIOUS_COUNTER_AT, header.previousCounter)
  view.setUint32(COUNTER_AT, header.counter)
  if (kemStep !== undefined) {
    bytes.set(kemStep.ciphertext, HEADER_BYTES)
    bytes.set(kemStep.publicKey, HEADER_BYTES + KEM_CIPHERTEXT_BYTES)
  }
  return bytes
}

/** Throws MALFORMED, and RATCHET_EXHAUSTED for counters past the end of a chain. */
export function decodeHeader(bytes: Uint8Array): RatchetHeader {
  const flags = bytes[0]
  if (
    !(flags === 0 && bytes.length === HEADER_BYTES) &&
    !(flags === FLAG_KEM_STEP && bytes.length === HEADER_WITH_KEM_BYTES)
  ) {
    throw new AgentMeshError('MALFORMED', 'The ratchet header has unknown flags or a wrong length', {
      operation: 'read a ratchet header',
    })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const previousCounter = view.getUint32(PREVIOUS_COUNTER_AT)
  const counter = view.getUint32(COUNTER_AT)
  if (previousCounter > MAX_CHAIN_MESSAGES || counter >= MAX_CHAIN_MESSAGES) {
    throw new AgentMeshError('RATCHET_EXHAUSTED', undefined, { operation: 'read a ratchet header' })
  }
  return {
    ratchetKey: bytes.slice(RATCHET_KEY_AT, PREVIOUS_COUNTER_AT),
    previousCounter,
    counter,
    kemStep:
      flags === FLAG_KEM_STEP
        ? {
            ciphertext: bytes.slice(HEADER_BYTES, HEADER_BYTES + KEM_CIPHERTEXT_BYTES),
            publicKey: bytes.slice(HEADER_BYTES + KEM_CIPHERTEXT_BYTES),
          }
        : undefined,
  }
}

export function encodeFrame(frame: RatchetFrame): Uint8Array {
  const { nonce, sealedHeader, ciphertext } = frame
  const bytes = new Uint8Array(LENGTH_BYTES + nonce.length + sealedHeader.length + ciphertext.length)
  bytes[0] = sealedHeader.length >> 8
  bytes[1] = sealedHeader.length & 0xff
  bytes.set(nonce, LENGTH_BYTES)
  bytes.set(sealedHeader, LENGTH_BYTES + nonce.length)
  bytes.set(ciphertext, LENGTH_BYTES + nonce.length + sealedHeader.length)
  return bytes
}

/** Only the two lengths a header can have are read, so that nobody makes us try keys on anything else. Throws MALFORMED. */
export function decodeFrame(message: Uint8Array): RatchetFrame {
  const sealedLength = ((message[0] ?? 0) << 8) | (message[1] ?? 0)
  const headerAt = LENGTH_BYTES + AEAD_NONCE_BYTES
  const ciphertextAt = headerAt + sealedLength
  if (
    (sealedLength !== HEADER_BYTES + AEAD_TAG_BYTES &&
      sealedLength !== HEADER_WITH_KEM_BYTES + AEAD_TAG_BYTES) ||
    message.length < ciphertextAt + AEAD_TAG_BYTES
  ) {
    throw new AgentMeshError(
      'MALFORMED',
      'The ratchet message is cut short or its header has a wrong length',
      {
        operation: 'read a ratchet message',
      },
    )
  }
  return {
    nonce: message.subarray(LENGTH_BYTES, headerAt),
    sealedHeader: message.subarray(headerAt, ciphertextAt),
    ciphertext: message.subarray(ciphertextAt),
  }
}
