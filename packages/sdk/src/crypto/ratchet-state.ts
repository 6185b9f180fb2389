/**
 * The state of one Double Ratchet session, and its encoding for a sealed row.
 *
 * A state is immutable: every step of ratchet.ts returns a new one that shares what did not change. Whoever holds the old
 * one can go back, which is what makes a failed transaction harmless; so it must be dropped once the new one is stored.
 *
 *     0x01 || root key (32) || next sending header key (32) || next receiving header key (32)
 *     || turn u8: 0x01 own ratchet public || secret            nothing received so far
 *                 0x02 their ratchet key                        the next send starts a chain
 *                 0x03 own public || secret || sending chain    a sending chain is open
 *     || PN u32
 *     || 0x00 | 0x01 receiving chain: chain key (32) || header key (32) || counter u32
 *     || KEM turn u8: 0x01 their public key (1184) | 0x02 own secret key (2400)
 *     || messages since the KEM step u16 || time of the KEM step u64, milliseconds since the epoch
 *     || chains with skipped keys u8, oldest first, each: header key (32) || count u16 || count times (counter u32 || key (32))
 *
 *     sending chain = chain key (32) || header key (32) || counter u32 || 0x00 | 0x01 KEM ciphertext (1088) || public key (1184)
 */
import { AgentMeshError } from '../wire/errors.ts'
import { MAX_CHAIN_MESSAGES, MAX_RECEIVING_CHAINS, MAX_SKIPPED_KEYS } from './constants.ts'
import {
  KEM_CIPHERTEXT_BYTES,
  KEM_PUBLIC_KEY_BYTES,
  KEM_SECRET_KEY_BYTES,
  concatBytes,
  type KeyPair,
} from './primitives.ts'
import type { KemStep } from './ratchet-header.ts'

export interface ReceivingChain {
  readonly chainKey: Uint8Array
  readonly headerKey: Uint8Array
  /** The next message's N; MAX_CHAIN_MESSAGES when the chain has ended. */
  readonly counter: number
}

export interface SendingChain extends ReceivingChain {
  /** Stands in every header of the chain, since any of them may be the first to arrive. */
  readonly kemStep: KemStep | undefined
}

/** Message keys of one receiving chain whose messages have not arrived, by counter, oldest first. Never empty. */
export interface SkippedChain {
  readonly headerKey: Uint8Array
  readonly messageKeys: ReadonlyMap<number, Uint8Array>
}

/**
 * Whose move the Diffie-Hellman ratchet waits for:
 *
 *     waiting --receive--> replying --send--> sending --receive a new chain--> replying
 *
 * The initiator begins in `waiting`, the responder in `sending`.
 */
export type RatchetTurn =
  | { readonly kind: 'waiting'; readonly ownRatchet: KeyPair }
  | { readonly kind: 'replying'; readonly theirRatchetKey: Uint8Array }
  | { readonly kind: 'sending'; readonly ownRatchet: KeyPair; readonly chain: SendingChain }

/** Who makes the next KEM step: whoever holds the other's latest KEM public key. */
export type KemTurn =
  | { readonly kind: 'ours'; readonly theirKey: Uint8Array }
  | { readonly kind: 'theirs'; readonly ownSecretKey: Uint8Array }

export interface RatchetState {
  readonly rootKey: Uint8Array
  readonly nextSendingHeaderKey: Uint8Array
  readonly nextReceivingHeaderKey: Uint8Array
  readonly turn: RatchetTurn
  /** PN: the number of messages sent in the chain before the current one. */
  readonly previousCounter: number
  readonly receiving: ReceivingChain | undefined
  readonly kemTurn: KemTurn
  /** Messages sent and received since the last KEM step, counted no further than KEM_STEP_MESSAGES. */
  readonly kemMessages: number
  /** When the last KEM step was made or received, in milliseconds since the epoch. */
  readonly kemAt: number
  /** Oldest first. */
  readonly skipped: readonly SkippedChain[]
}

const STATE_VERSION = 0x01
const TURN_CODES = { waiting: 0x01, replying: 0x02, sending: 0x03 } as const
const KEM_TURN_CODES = { ours: 0x01, theirs: 0x02 } as const

function unsigned(value: number, bytes: 1 | 2 | 4): Uint8Array {
  const out = new Uint8Array(bytes)
  for (let at = bytes - 1, rest = value; at >= 0; at--, rest = Math.floor(rest / 256)) out[at] = rest % 256
  return out
}

function u64(value: number): Uint8Array {
  const out = new Uint8Array(8)
  new DataView(out.buffer).setBigUint64(0, BigInt(value))
  return out
}

function encodeTurn(turn: RatchetTurn): Uint8Array {
  const code = Uint8Array.of(TURN_CODES[turn.kind])
  if (turn.kind === 'replying') return concatBytes(code, turn.theirRatchetKey)
  const own = concatBytes(code, turn.ownRatchet.publicKey, turn.ownRatchet.secretKey)
  if (turn.kind === 'waiting') return own
  const { chain } = turn
  const kemStep =
    chain.kemStep === undefined
      ? Uint8Array.of(0)
      : concatBytes(Uint8Array.of(1), chain.kemStep.ciphertext, chain.kemStep.publicKey)
  return concatBytes(own, chain.chainKey, chain.headerKey, unsigned(chain.counter, 4), kemStep)
}

function encodeSkipped(chain: SkippedChain): Uint8Array {
  const entries = [...chain.messageKeys].flatMap(([counter, key]) => [unsigned(counter, 4), key])
  return concatBytes(chain.headerKey, unsigned(chain.messageKeys.size, 2), ...entries)
}

/** The state as bytes. They hold every key of the session: seal them before they leave memory. */
export function encodeRatchetState(state: RatchetState): Uint8Array {
  const { receiving, kemTurn } = state
  return concatBytes(
    Uint8Array.of(STATE_VERSION),
    state.rootKey,
    state.nextSendingHeaderKey,
    state.nextReceivingHeaderKey,
    encodeTurn(state.turn),
    unsigned(state.previousCounter, 4),
    receiving === undefined
      ? Uint8Array.of(0)
      : concatBytes(
          Uint8Array.of(1),
          receiving.chainKey,
          receiving.headerKey,
          unsigned(receiving.counter, 4),
        ),
    Uint8Array.of(KEM_TURN_CODES[kemTurn.kind]),
    kemTurn.kind === 'ours' ? kemTurn.theirKey : kemTurn.ownSecretKey,
    unsigned(state.kemMessages, 2),
    u64(state.kemAt),
    unsigned(state.skipped.length, 1),
    ...state.skipped.map(encodeSkipped),
  )
}

function malformed(why: string): AgentMeshError {
  return new AgentMeshError('MALFORMED', `Not a ratchet state: ${why}`, { operation: 'read a ratchet state' })
}

/** Takes fields off the front of a row, each copied, so that the row itself can be overwritten. */
class StateReader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  take(length: number): Uint8Array {
    const end = this.#at + length
    if (end > this.#bytes.length) throw malformed('it is cut short')
    const field = this.#bytes.slice(this.#at, end)
    this.#at = end
    return field
  }

  unsigned(bytes: 1 | 2 | 4): number {
    return this.take(bytes).reduce((value, byte) => value * 256 + byte, 0)
  }

  counter(): number {
    const value = this.unsigned(4)
    if (value > MAX_CHAIN_MESSAGES) throw malformed('a counter is out of range')
    return value
  }

  time(): number {
    const value = new DataView(this.take(8).buffer).getBigUint64(0)
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('the time is out of range')
    return Number(value)
  }

  present(): boolean {
    const flag = this.unsigned(1)
    if (flag > 1) throw malformed('a presence flag is neither 0 nor 1')
    return flag === 1
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed('bytes follow its end')
  }
}

function readTurn(reader: StateReader): RatchetTurn {
  const code = reader.unsigned(1)
  if (code === TURN_CODES.replying) return { kind: 'replying', theirRatchetKey: reader.take(32) }
  if (code !== TURN_CODES.waiting && code !== TURN_CODES.sending) throw malformed('its turn is unknown')
  const ownRatchet = { publicKey: reader.take(32), secretKey: reader.take(32) }
  if (code === TURN_CODES.waiting) return { kind: 'waiting', ownRatchet }
  const chain = readReceivingChain(reader)
  const kemStep = reader.present()
    ? { ciphertext: reader.take(KEM_CIPHERTEXT_BYTES), publicKey: reader.take(KEM_PUBLIC_KEY_BYTES) }
    : undefined
  return { kind: 'sending', ownRatchet, chain: { ...chain, kemStep } }
}

function readReceivingChain(reader: StateReader): ReceivingChain {
  return { chainKey: reader.take(32), headerKey: reader.take(32), counter: reader.counter() }
}

function readKemTurn(reader: StateReader): KemTurn {
  const code = reader.unsigned(1)
  if (code === KEM_TURN_CODES.ours) return { kind: 'ours', theirKey: reader.take(KEM_PUBLIC_KEY_BYTES) }
  if (code === KEM_TURN_CODES.theirs) {
    return { kind: 'theirs', ownSecretKey: reader.take(KEM_SECRET_KEY_BYTES) }
  }
  throw malformed('its KEM turn is unknown')
}

function readSkipped(reader: StateReader): SkippedChain[] {
  const chains = reader.unsigned(1)
  if (chains > MAX_RECEIVING_CHAINS) throw malformed('it has too many chains')
  let total = 0
  return Array.from({ length: chains }, () => {
    const headerKey = reader.take(32)
    const count = reader.unsigned(2)
    total += count
    if (count === 0 || total > MAX_SKIPPED_KEYS) throw malformed('its skipped keys are none or too many')
    const messageKeys = new Map<number, Uint8Array>()
    for (let n = 0; n < count; n++) messageKeys.set(reader.counter(), reader.take(32))
    if (messageKeys.size !== count) throw malformed('a skipped key stands twice')
    return { headerKey, messageKeys }
  })
}

/** The state of these bytes, and nothing but these bytes. Throws MALFORMED. */
export function decodeRatchetState(bytes: Uint8Array): RatchetState {
  const reader = new StateReader(bytes)
  if (reader.unsigned(1) !== STATE_VERSION) throw malformed('its version is unknown')
  const state: RatchetState = {
    rootKey: reader.take(32),
    nextSendingHeaderKey: reader.take(32),
    nextReceivingHeaderKey: reader.take(32),
    turn: readTurn(reader),
    previousCounter: reader.counter(),
    receiving: reader.present() ? readReceivingChain(reader) : undefined,
    kemTurn: readKemTurn(reader),
    kemMessages: reader.unsigned(2),
    kemAt: reader.time(),
    skipped: readSkipped(reader),
  }
  reader.end()
  return state
}
