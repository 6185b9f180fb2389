/**
 * Frames of attachments in a session: sealed by its ratchet like an envelope, with no sequence, no signature and no place
 * in its limits (wire/attachment.ts, spec/sessions.md).
 *
 *     createAttachmentFrame    open session -> encode -> ratchet encrypt -> session id | frame
 *     readAttachmentFrame      a plaintext that `openPacket` took from the ratchet -> frame
 */
import { ratchetEncrypt } from '../crypto/index.ts'
import type { Session, SessionEnvironment } from '../session/index.ts'
import {
  AgentMeshError,
  decodeAttachmentFrame,
  encodeAttachmentFrame,
  encodeSessionPacket,
  type AttachmentFrame,
} from '../wire/index.ts'
import { placeOf } from './place.ts'

/**
 * Seals a frame. The returned session must be stored before the packet leaves. Draws what `ratchetEncrypt` draws.
 *
 * @throws SESSION_CLOSED, SESSION_EXPIRED; MALFORMED for a frame no receiver would take; RATCHET_EXHAUSTED
 */
export function createAttachmentFrame(
  session: Session,
  frame: AttachmentFrame,
  environment: SessionEnvironment,
): { readonly session: Session; readonly packet: Uint8Array } {
  if (session.state !== 'open') throw new AgentMeshError('SESSION_CLOSED')
  if (environment.now >= session.expiresAt) throw new AgentMeshError('SESSION_EXPIRED')
  const { state, message } = ratchetEncrypt(
    session.ratchet,
    encodeAttachmentFrame(frame),
    placeOf(session, 'message', 'out'),
    environment,
  )
  return {
    packet: encodeSessionPacket({ sessionId: session.id, ratchetMessage: message }),
    session: { ...session, ratchet: state, lastActivityAt: environment.now },
  }
}

/** @throws MALFORMED, INVALID_ID; SESSION_MISMATCH where the relay was told that the session ends */
export function readAttachmentFrame(plaintext: Uint8Array, relayType: 'message' | 'close'): AttachmentFrame {
  if (relayType !== 'message') throw new AgentMeshError('SESSION_MISMATCH')
  return decodeAttachmentFrame(plaintext)
}
