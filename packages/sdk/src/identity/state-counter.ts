/**
 * An agent's word to itself, kept by a registry: how far its state was (spec/registry.md, DESIGN §7.2).
 *
 *     label `state-counter`; parts: AMID, 20 | u64 counter
 *
 * Signed, so that a registry cannot make a number up by which an agent would give up what it holds.
 */
import { sign, verify } from '../crypto/signing.ts'
import {
  AgentMeshError,
  amidToBytes,
  ByteWriter,
  fromBase64,
  toBase64,
  type Amid,
  type StateCounter,
} from '../wire/index.ts'
import type { Identity } from './amid.ts'

function partsOf(amid: Amid, counter: number): [Uint8Array, Uint8Array] {
  return [amidToBytes(amid), new ByteWriter().u64(counter).finish()]
}

export function signStateCounter({ amid, signing }: Identity, counter: number): StateCounter {
  return { counter, signature: toBase64(sign('state-counter', signing.secretKey, ...partsOf(amid, counter))) }
}

/** @throws INVALID_SIGNATURE unless the agent signed it */
export function verifyStateCounter(
  { counter, signature }: StateCounter,
  amid: Amid,
  publicKey: Uint8Array,
): void {
  if (verify('state-counter', publicKey, fromBase64(signature), ...partsOf(amid, counter))) return
  throw new AgentMeshError('INVALID_SIGNATURE', undefined, { operation: 'read a state counter' })
}
