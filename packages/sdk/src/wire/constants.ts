/**
 * Numbers and names of the protocol.
 *
 * First what the specification fixes: changing one of these makes another protocol. Then what we chose: an
 * implementation may differ there and still interoperate.
 */

// --- fixed by the specification -----------------------------------------------------------------------------------

export const PROTOCOL_VERSION = 'agentmesh/0.2'
/** Versions this implementation speaks, best first. */
export const PROTOCOL_VERSIONS: readonly string[] = [PROTOCOL_VERSION]

export const AMID_BYTES = 20
export const ID_BYTES = 16

/** A KNOCK packet without its optional optimistic message (DESIGN §7). */
export const MAX_KNOCK_BYTES = 8 * 1024
/** Store-and-forward: how long and how many (specification §4.2). */
export const MAILBOX_TTL_SECONDS = 72 * 3600
export const MAILBOX_MAX_MESSAGES = 100
export const MAX_JSON_DEPTH = 32

export const SUBPROTOCOL_BINARY = 'agentmesh.v0.2.bin'
export const SUBPROTOCOL_JSON = 'agentmesh.v0.2.json'
export const RELAY_PATH = '/v1/connect'

// --- chosen here --------------------------------------------------------------------------------------------------

/** Largest opaque payload a relay carries: a 64 KiB message, its envelope as base64 JSON, and ratchet overhead. */
export const MAX_PAYLOAD_BYTES = 160 * 1024
/** Default `constraints.max_message_size_bytes` of an ACCEPT: canonical envelope bytes. */
export const DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024
/** How far two clocks may differ before a timestamp is refused. */
export const CLOCK_SKEW_SECONDS = 300
/** Time a KNOCK stays answerable: a mailbox's 72 hours, so that an offline agent can still let it in. */
export const KNOCK_TTL_SECONDS = MAILBOX_TTL_SECONDS
