/**
 * Under what a packet is remembered: its sender and its hash together. Anybody can send a copy of what somebody else sent; what was
 * said of the one (seen, waiting, decided, answered) says nothing of the other.
 */
import { sha256 } from '../crypto/index.ts'
import { amidToBytes, toHex, type Amid } from '../wire/index.ts'

/** @param hash 32 bytes: SHA-256 of the packet, or the KNOCK's hash */
export function packetKey(from: Amid, hash: Uint8Array): string {
  return toHex(sha256(amidToBytes(from), hash))
}
