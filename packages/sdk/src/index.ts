/**
 * @agentmesh/sdk: an agent that others can find and talk to in private.
 *
 *     const agent = await Agent.open({ home: './alice' })
 *
 * The layers below (`wire`, `identity`, `crypto/signing`) have doors of their own for servers.
 */
export * from './agent/index.ts'
export type { LogAudit, LogFinding, LogFindingCode } from './discovery/index.ts'
export {
  auditLog,
  HttpRegistryClient,
  HttpVerificationClient,
  LOG_FINDINGS,
  type RegistryClient,
} from './discovery/index.ts'
export { checkAuditLog, readAuditLog, verifyAuditLog } from './observability/index.ts'
export type { AuditCheck, AuditRecord } from './observability/index.ts'
export {
  defaultPolicy,
  evaluateKnock,
  newPrecheckState,
  parsePolicy,
  precheckKnock,
  STARTING_REPUTATION,
  type Decision,
  type Policy,
  type RuleResult,
} from './session/index.ts'
export { fetchTurnCredentials, type TurnRequestOptions } from './transport/index.ts'
export * from './wire/index.ts'
