/**
 * Advisory locks, which PostgreSQL frees with the transaction: a class, and in it a key. Whoever takes several takes them in
 * the order of class and key, so that no two relays wait for each other.
 */
import type { Amid } from '@agentmesh/sdk/wire'

/** First halves of the keys: what is locked. The numbers only have to differ from those of other programs. */
export const LOCKS = {
  migration: 0x61_6d_72_01,
  partitions: 0x61_6d_72_02,
  store: 0x61_6d_72_03,
  recipient: 0x61_6d_72_04,
  sender: 0x61_6d_72_05,
} as const

const FNV_OFFSET = 0x81_1c_9d_c5
const FNV_PRIME = 0x01_00_01_93

/** FNV-1a over the text, as a signed 32-bit number. Two AMIDs of one key only wait for each other. */
function lockKey(amid: Amid): number {
  let hash = FNV_OFFSET
  for (let index = 0; index < amid.length; index++) {
    hash = Math.imul(hash ^ amid.charCodeAt(index), FNV_PRIME)
  }
  return hash | 0
}

/** Distinct keys of AMIDs, in the order in which they are locked. */
export function lockKeys(amids: Iterable<Amid>): number[] {
  const keys = new Set<number>()
  for (const amid of amids) keys.add(lockKey(amid))
  return [...keys].toSorted((a, b) => a - b)
}
