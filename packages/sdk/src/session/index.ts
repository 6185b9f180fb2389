/**
 * session/: how two agents come to share a session, and who is let in. KNOCK, ACCEPT and REJECT (specification §5,
 * DESIGN §7, §7.1), the owner's policy and its decision (§7.3), the session as a value. All pure; text: spec/knock.md.
 */
export * from './decision.ts'
export { associatedData, bestCommonVersion, headerSequence, knockHash } from './handshake.ts'
export type { MessagePlace, SessionEnvironment } from './handshake.ts'
export * from './knock-answer.ts'
export { consumeAnswer, createKnock } from './knock-initiator.ts'
export type { KnockAnswer, KnockRequest, PendingKnock } from './knock-initiator.ts'
export * from './knock-machine.ts'
export * from './knock-responder.ts'
export { openOptimistic } from './optimistic.ts'
export type { OptimisticDraft } from './optimistic.ts'
export { defaultPolicy, IntentPattern, matchingIntent, Policy } from './policy.ts'
export { MAX_POLICY_BYTES, parsePolicy } from './policy-text.ts'
export type { OwnStanding } from './own-standing.ts'
export * from './precheck.ts'
export * from './rate-limit.ts'
export { requestRefusal, RULES, sessionRefusal } from './rules.ts'
export type { PolicyRule, RequestRefusal, Rule, RuleResult, SessionRefusal } from './rules.ts'
export { consumeReset, createReset, readReset } from './reset.ts'
export type { ResetNotice, ResetPlace } from './reset.ts'
export { decodePending, decodeSession, encodePending, encodeSession } from './session-codec.ts'
export * from './standing.ts'
export * from './verified-standing.ts'
export { checkSize, signEnvelope, verifiedBytes } from './signed-envelope.ts'
export type { EnvelopeSigner, EnvelopeSource } from './signed-envelope.ts'
export { defaultConstraints, grantConstraints, isBehind, MAX_SESSION_SECONDS } from './session.ts'
export type {
  ClosesPassed,
  ExchangeState,
  ReceiveWindow,
  Session,
  SessionRole,
  SessionState,
} from './session.ts'
