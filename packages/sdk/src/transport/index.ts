/** Layer 3, transport: the agent's side of a relay (specification §4, DESIGN §6). */
export { systemDelay, type Delay } from './backoff.ts'
export { measureRelay } from './measure.ts'
export { addressKind, checkPeerRelay, namedKind, type AddressKind, type OwnKinds } from './relay-address.ts'
export { RelayConnection, type RelayConnectionOptions } from './relay-connection.ts'
export { openSender, SenderPool, type Sender } from './sender-pool.ts'
export { normalRelayUrl } from './relay-url.ts'
export * from './transport.ts'
export { fetchTurnCredentials, type TurnRequestOptions } from './turn-credentials.ts'
