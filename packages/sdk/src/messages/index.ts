/**
 * messages/: what two agents say in a session. `createMessage` and `consumeMessage` are the two halves of the envelope
 * (specification §6, spec/sessions.md); `negotiate` and `SchemaBook` are about what an envelope holds (spec/schemas.md).
 */
export { createAttachmentFrame } from './attachment-frames.ts'
export { consumeMessage, consumePacket, createMessage } from './message.ts'
export type { Consumed, MessageDraft, RefusedEnvelope } from './message.ts'
export { negotiate } from './negotiation.ts'
export { mismatchError, SchemaBook } from './schema-check.ts'
export type { InstalledSchema, SchemaCheck, SchemaMode, SchemaProblem } from './schema-check.ts'
