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

/** How a protocol version is spelled, in a KNOCK header, a relay frame and a signed prekey alike. */
export const VERSION_PATTERN = '^agentmesh/[0-9]{1,3}\\.[0-9]{1,3}$'
export const MAX_VERSIONS = 16

export const AMID_BYTES = 20
export const ID_BYTES = 16

/** A KNOCK packet without its optional optimistic message (DESIGN §7). */
export const MAX_KNOCK_BYTES = 8 * 1024
/** A RESET is a few hundred bytes; the rest is room for fields of later versions. */
export const MAX_RESET_BYTES = 2 * 1024
/** Store-and-forward: how long and how many (specification §4.2). */
export const MAILBOX_TTL_SECONDS = 72 * 3600
export const MAILBOX_MAX_MESSAGES = 100
export const MAX_JSON_DEPTH = 32

export const SUBPROTOCOL_BINARY = 'agentmesh.v0.2.bin'
export const SUBPROTOCOL_JSON = 'agentmesh.v0.2.json'
/** A relay id is an authority, `host[:port]`, in printable ASCII. */
export const RELAY_ID_PATTERN = '^[!-~]{1,255}$'
/** Characters (code points) of the `message` in a relay's ERROR. */
export const MAX_ERROR_MESSAGE_LENGTH = 1024
export const RELAY_PATH = '/v1/connect'
/** Where a relay gives out TURN credentials. */
export const TURN_PATH = '/v1/turn'

// --- chosen here --------------------------------------------------------------------------------------------------

/** Largest opaque payload a relay carries: a 64 KiB message, its envelope as base64 JSON, and ratchet overhead. */
export const MAX_PAYLOAD_BYTES = 160 * 1024
/** Default `constraints.max_message_size_bytes` of an ACCEPT: canonical envelope bytes. */
export const DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024
/** The least that an ACCEPT may grant: less would refuse in advance what the other side is about to say. */
export const MIN_MAX_MESSAGE_BYTES = 4 * 1024
/** How far two clocks may differ before a timestamp is refused. */
export const CLOCK_SKEW_SECONDS = 300
/** Time a KNOCK stays answerable: a mailbox's 72 hours, so that an offline agent can still let it in. */
export const KNOCK_TTL_SECONDS = MAILBOX_TTL_SECONDS
