/**
 * Layer 7, observability: what the owner can see afterwards. The audit log and its check (specification §7.1, DESIGN §9).
 */
export type { AuditEvent, AuditEventName, AuditFields, AuditLine } from './audit-events.ts'
export type { AuditHead } from './audit-format.ts'
export { AuditLog } from './audit-log.ts'
export type { AuditLogOptions } from './audit-log.ts'
export { checkAuditLog, unknownEnd } from './audit-check.ts'
export type { AuditCheck, AuditRecord, KnownGap } from './audit-check.ts'
export { gapId } from './audit-end.ts'
export type { AuditEnd, AuditGap, AuditProblemKind } from './audit-end.ts'
export { findEnd, hasAuditLog, setAsideAuditLog } from './audit-resume.ts'
export { readAuditLog, verifyAuditLog } from './audit-verify.ts'
export type { AuditProblem, AuditReport } from './audit-verify.ts'
