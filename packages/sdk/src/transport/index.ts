/** Layer 3, transport: the agent's side of a relay (specification §4, DESIGN §6). */
export type { Delay } from './backoff.ts'
export { RelayConnection, type RelayConnectionOptions } from './relay-connection.ts'
export * from './transport.ts'
export { fetchTurnCredentials, type TurnRequestOptions } from './turn-credentials.ts'
