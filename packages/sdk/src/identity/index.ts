/**
 * Layer 1, identity: who an agent is. AMIDs, signed records, signed requests, and the key files in its home
 * (specification §2, DESIGN §4). Servers import this layer, so nothing here reaches handshake or ratchet code.
 */
export * from './amid.ts'
export * from './bundle.ts'
export * from './certificates/index.ts'
export * from './connect.ts'
export * from './did-document.ts'
export * from './home.ts'
export * from './home-identity.ts'
export * from './http-signature.ts'
export * from './joined-organizations.ts'
export * from './key-folder.ts'
export * from './key-records.ts'
export * from './organization-file.ts'
export * from './prekeys.ts'
export * from './recovery.ts'
export * from './registration.ts'
export * from './reputation.ts'
export * from './transparency/index.ts'
export { signStateCounter, verifyStateCounter } from './state-counter.ts'
