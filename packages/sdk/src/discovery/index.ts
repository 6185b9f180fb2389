/**
 * Layer 2, discovery: finding other agents (specification §3). The registry is asked, and believed only in what it speaks
 * for itself: presence, tier and reputation.
 */
export { HttpRegistryClient } from './http-registry-client.ts'
export { HttpVerificationClient } from './http-verification-client.ts'
export {
  auditLog,
  LOG_FINDINGS,
  type LogAudit,
  type LogAuditOptions,
  type LogFinding,
  type LogFindingCode,
} from './log-audit.ts'
export type { RegistryClient, SearchQuery } from './registry-client.ts'
export type { RegistryHttpOptions } from './registry-http.ts'
export type { VerificationClient } from './verification-client.ts'
