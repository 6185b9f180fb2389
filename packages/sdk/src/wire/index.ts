/**
 * Layer 0, wire: what crosses a socket or a file, and nothing about what it means. Every message type is defined once
 * here, with its schema, its validator and its encodings.
 */
export * from './bytes.ts'
export * from './capability.ts'
export * from './constants.ts'
export * from './envelope.ts'
export * from './errors.ts'
export * from './ids.ts'
export * from './json.ts'
export * from './knock.ts'
export * from './optimistic-envelope.ts'
export * from './packets.ts'
export * from './records.ts'
export * from './relay-binary.ts'
export * from './relay-frames.ts'
export * from './relay-json.ts'
export * from './reputation.ts'
export * from './reset.ts'
export * from './schema.ts'
export * from './standard-schemas/index.ts'
export * from './time.ts'
export * from './transparency.ts'
