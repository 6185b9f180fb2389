/** The agent: everything below put to work. */
export { Agent } from './agent.ts'
export { childEnvironment } from './child-environment.ts'
export { AgentClient } from './client.ts'
export {
  Config,
  DEFAULT_REGISTRY_URL,
  DEFAULT_RELAY_URL,
  hasConfig,
  normalRelays,
  readConfig,
  writeConfig,
} from './config.ts'
export { Conversation } from './conversation.ts'
export type { AgentEvents } from './core.ts'
export { runDaemon, type DaemonOptions } from './daemon.ts'
export type { ListenerEvent } from './listeners.ts'
export { localApiPath } from './local-api-path.ts'
export { POLICY_FILE } from './policy-file.ts'
export type { AgentOptions } from './open-core.ts'
export { readAuditRecord } from './read-audit-record.ts'
export { SentMessage } from './sent-message.ts'
export * from './types.ts'
