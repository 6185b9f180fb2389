/** The transparency log (RFC 6962, RFC 9162; DESIGN §8): Merkle tree, entries, signed heads, proofs about certificates. */
export * from './certificate-proof.ts'
export * from './log-entry.ts'
export * from './log-monitor.ts'
export * from './merkle.ts'
export * from './tree-head.ts'
