/**
 * The relay: carries sealed payloads between agents and keeps them for those who are away (specification §4.2). It sees
 * sizes, addresses and times, and imports nothing that could decrypt.
 */
export { RELAY_DEFINITION } from './configuration.ts'
export { DEFAULT_LIMITS, type RelayLimits } from './limits.ts'
export type { RelayLogger } from './logger.ts'
export { relayProgram } from './program.ts'
export type { RelayOptions, RelayStats, RunningRelay } from './relay-options.ts'
export { startRelay } from './server.ts'
