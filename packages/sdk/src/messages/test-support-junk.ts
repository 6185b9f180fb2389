import { junkMessage } from '../crypto/test-support.ts'
import type { Session } from '../session/index.ts'
import { encodeSessionPacket } from '../wire/index.ts'

/**
 * A packet that a peer makes up on its session: `crypto/test-support.ts`.
 *
 * @param ahead messages that it says were sent before it and have not come
 */
export function junkPacket({ id, ratchet }: Session, ahead: number): Uint8Array {
  return encodeSessionPacket({ sessionId: id, ratchetMessage: junkMessage(ratchet, ahead) })
}
