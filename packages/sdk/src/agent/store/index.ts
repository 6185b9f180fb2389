/**
 * agent/store: what an agent keeps on disk, and the lock that makes it the only writer.
 */
export { jsonCodec } from './json-codec.ts'
export type { TableCodec } from './json-codec.ts'
export { acquireLock } from './lock.ts'
export { StateStore } from './state-store.ts'
export type { CommitHook, StateStoreOptions, TableCodecs, Tables } from './state-store.ts'
export type { Table, TableIndex, TableQuery, TableRow } from './table.ts'
