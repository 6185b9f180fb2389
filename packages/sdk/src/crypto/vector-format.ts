/**
 * The format of test-vectors/crypto/, as spec/crypto.md section 6 describes it. Bytes are in hexadecimal.
 */
import type { ErrorCode } from '../wire/errors.ts'
import type { SigningLabel } from './signing.ts'
import type { KemKind } from './x3dh.ts'

export type Outcome = 'ok' | ErrorCode
export type Party = 'a' | 'b'

interface VectorHead {
  readonly description: string
  readonly section: string
  readonly expect: Outcome
}

export interface X3dhVector extends VectorHead {
  readonly kind: 'x3dh'
  /** Who refuses, in a vector that expects a refusal. */
  readonly refused_by?: Party
  readonly context: {
    readonly initiator: string
    readonly responder: string
    readonly initiator_versions: readonly string[]
    readonly responder_versions: readonly string[]
  }
  readonly initiator: { readonly identity_secret: string; readonly random: string }
  readonly responder: {
    readonly identity_secret: string
    readonly signed_prekey_secret: string
    readonly one_time_prekey_secret: string | null
    readonly kem_seed: string
    readonly kem_kind: KemKind
  }
  readonly bundle: {
    readonly identity_key: string
    readonly signed_prekey: string
    readonly one_time_prekey: string | null
    readonly kem_key: string
  }
  readonly offer: {
    readonly identity_key: string
    readonly ephemeral_key: string
    readonly ratchet_key: string
    readonly kem_ciphertext: string
  } | null
  readonly result: {
    readonly transcript: string
    readonly knock_key: string
    readonly optimistic_key: string
    readonly chain_key: string
    readonly initiator_header_key: string
    readonly responder_header_key: string
  } | null
}

export type RatchetStep =
  | { readonly do: 'respond'; readonly by: 'b'; readonly now: number; readonly random: string }
  | {
      readonly do: 'encrypt'
      readonly by: Party
      readonly now: number
      readonly random: string
      readonly plaintext: string
      readonly associated_data: string
      readonly message: string
    }
  | { readonly do: 'discard'; readonly by: Party; readonly now: number; readonly count: number }
  | {
      readonly do: 'decrypt'
      readonly by: Party
      readonly now: number
      readonly message: string
      readonly associated_data: string
      readonly expect: Outcome
      readonly plaintext: string | null
    }

export interface RatchetVector extends VectorHead {
  readonly kind: 'ratchet'
  readonly keys: {
    readonly chain_key: string
    readonly initiator_header_key: string
    readonly responder_header_key: string
  }
  readonly initiator: { readonly ratchet_secret: string; readonly kem_seed: string }
  readonly steps: readonly RatchetStep[]
}

export interface SignatureVector extends VectorHead {
  readonly kind: 'signature'
  readonly label: SigningLabel
  readonly public_key: string
  readonly seed: string
  readonly parts: readonly string[]
  readonly signed_bytes: string
  readonly signature: string
}

export interface SealVector extends VectorHead {
  readonly kind: 'seal'
  readonly key: string
  readonly place: string
  readonly random: string
  readonly plaintext: string
  readonly sealed: string
}

export type CryptoVector = X3dhVector | RatchetVector | SignatureVector | SealVector
