/**
 * The symmetric half of the ratchet: one chain's keys, and those kept for messages that have not arrived.
 *
 *     message key    = HMAC-SHA-256(chain key, 0x01)
 *     next chain key = HMAC-SHA-256(chain key, 0x02)
 *
 * The caps are those of Signal's code (DESIGN 7): they bound what one frame can make us compute and what a peer can make
 * us keep.
 */
import { AgentMeshError } from '../wire/errors.ts'
import { MAX_FORWARD, MAX_RECEIVING_CHAINS, MAX_SKIPPED_KEYS } from './constants.ts'
import { equalBytes, hmacSha256, zero } from './primitives.ts'
import type { ReceivingChain, SkippedChain } from './ratchet-state.ts'

/** A key that was passed, with the place of its message. */
export type SkippedKey = readonly [counter: number, messageKey: Uint8Array]

const MESSAGE_KEY_INPUT = Uint8Array.of(0x01)
const CHAIN_KEY_INPUT = Uint8Array.of(0x02)

export function messageKeyOf(chainKey: Uint8Array): Uint8Array {
  return hmacSha256(chainKey, MESSAGE_KEY_INPUT)
}

export function nextChainKey(chainKey: Uint8Array): Uint8Array {
  return hmacSha256(chainKey, CHAIN_KEY_INPUT)
}

export function decryptionError(
  code: 'DECRYPTION_FAILED' | 'RATCHET_DUPLICATE' | 'RATCHET_GAP' | 'RATCHET_BUDGET' | 'MALFORMED',
  why?: string,
) {
  return new AgentMeshError(code, why, { operation: 'decrypt a ratchet message' })
}

/** The steps from a chain's place to `counter`; none when it was passed. Throws RATCHET_GAP. */
export function stepsTo(chain: ReceivingChain, counter: number): number {
  if (counter - chain.counter > MAX_FORWARD) throw decryptionError('RATCHET_GAP')
  return Math.max(0, counter - chain.counter)
}

/**
 * Moves a chain forward to `counter` and gives the keys it passed, of which only as many are derived as can be kept.
 */
export function skipTo(
  chain: ReceivingChain,
  counter: number,
): { readonly chain: ReceivingChain; readonly passed: readonly SkippedKey[] } {
  const passed: SkippedKey[] = []
  let chainKey = chain.chainKey
  for (let at = chain.counter; at < counter; at++) {
    if (counter - at <= MAX_SKIPPED_KEYS) passed.push([at, messageKeyOf(chainKey)])
    const next = nextChainKey(chainKey)
    // The first chain key is still the given state's.
    if (chainKey !== chain.chainKey) zero(chainKey)
    chainKey = next
  }
  return { chain: { ...chain, chainKey, counter: Math.max(chain.counter, counter) }, passed }
}

/** Adds passed keys to what is kept, dropping the oldest chains and keys beyond the caps. */
export function keepSkipped(
  skipped: readonly SkippedChain[],
  headerKey: Uint8Array,
  passed: readonly SkippedKey[],
): readonly SkippedChain[] {
  if (passed.length === 0) return skipped
  const last = skipped.at(-1)
  const sameChain = last !== undefined && equalBytes(last.headerKey, headerKey)
  const grown = {
    headerKey,
    messageKeys: new Map<number, Uint8Array>([...(sameChain ? last.messageKeys : []), ...passed]),
  }
  const chains = [...(sameChain ? skipped.slice(0, -1) : skipped), grown].slice(-MAX_RECEIVING_CHAINS)
  let excess = chains.reduce((total, chain) => total + chain.messageKeys.size, 0) - MAX_SKIPPED_KEYS
  const kept: SkippedChain[] = []
  for (const chain of chains) {
    const dropped = Math.min(Math.max(excess, 0), chain.messageKeys.size)
    excess -= dropped
    if (dropped === 0) kept.push(chain)
    else if (dropped < chain.messageKeys.size) {
      kept.push({ ...chain, messageKeys: new Map([...chain.messageKeys].slice(dropped)) })
    }
  }
  return kept
}
