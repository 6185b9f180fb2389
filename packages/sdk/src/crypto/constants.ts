/**
 * The numbers of crypto/, apart by who may change them.
 *
 * The first group is part of the protocol: a peer with another value cannot talk to us. The second group bounds what a
 * peer can make us keep or compute; another implementation may choose its own.
 */

/** X25519, ML-KEM-768, HKDF-SHA-256, XChaCha20-Poly1305, Ed25519. Part of the handshake's transcript. */
export const SUITE_X25519_MLKEM768 = 1

/** Length of a ratchet header without and with a KEM step: flags, ratchet key, PN, N, [ciphertext, public key]. */
export const HEADER_BYTES = 1 + 32 + 4 + 4
export const HEADER_WITH_KEM_BYTES = HEADER_BYTES + 1088 + 1184

/** The most messages a chain has, so that N and PN fit a signed 32-bit integer in every language: N ends at 2^31 - 2. */
export const MAX_CHAIN_MESSAGES = 2 ** 31 - 1

/** A KEM step is due after this many messages, both directions together, or after this many seconds. */
export const KEM_STEP_MESSAGES = 50
export const KEM_STEP_SECONDS = 600

/** Message keys kept for messages that have not arrived, all chains together; the oldest goes first. */
export const MAX_SKIPPED_KEYS = 2000

/**
 * How far ahead of its chain one message may be: the most key derivations a single frame can cost, per chain. A frame whose
 * body does not open can be repeated at that price; more than this is no use to an honest peer, as no more keys are kept.
 */
export const MAX_FORWARD = 2000

/** Receiving chains, the current one included, that may have skipped keys; the oldest goes first. */
export const MAX_RECEIVING_CHAINS = 5
