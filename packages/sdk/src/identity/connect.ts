/**
 * What an agent signs when it connects to a relay (DESIGN §6).
 *
 *     label `connect`; parts: UTF-8 relay id | nonce of HELLO, 32 | AMID, 20 | signing key, 32 | u64 milliseconds |
 *                            u64 state counter
 *
 * Relay id and nonce make the signature good for one connection to one relay: a bare signed timestamp could be replayed
 * by anybody who saw it, to take the agent's place.
 */
import { AgentMeshError, amidToBytes, ByteWriter, utf8Bytes, type Amid } from '../wire/index.ts'

export const CONNECT_NONCE_BYTES = 32

/**
 * The parts of a CONNECT signature, for `sign` and `verify` with the label `connect`.
 *
 * @param relayId the authority (host[:port]) the agent dialled
 * @param timestamp milliseconds since the epoch
 * @throws MALFORMED for a nonce that is not 32 bytes, a timestamp or counter that is not a whole number
 */
export function connectSignatureParts(
  relayId: string,
  nonce: Uint8Array,
  amid: Amid,
  publicKey: Uint8Array,
  timestamp: number,
  stateCounter: number,
): [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array] {
  if (nonce.length !== CONNECT_NONCE_BYTES)
    throw new AgentMeshError('MALFORMED', 'HELLO nonce is not 32 bytes')
  if (!Number.isSafeInteger(timestamp) || timestamp < 0) {
    throw new AgentMeshError('MALFORMED', 'CONNECT timestamp is not in milliseconds')
  }
  if (!Number.isSafeInteger(stateCounter) || stateCounter < 0) {
    throw new AgentMeshError('MALFORMED', 'CONNECT state counter is not a whole number')
  }
  const u64 = (value: number): Uint8Array => new ByteWriter().u64(value).finish()
  return [utf8Bytes(relayId), nonce, amidToBytes(amid), publicKey, u64(timestamp), u64(stateCounter)]
}
