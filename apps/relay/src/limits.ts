/**
 * Every number an operator may set. All buffers of the relay are bounded by one of them. Times are milliseconds,
 * sizes bytes, rates tokens a second with a burst on top.
 */
import { MAILBOX_MAX_MESSAGES, MAILBOX_TTL_SECONDS, MAX_PAYLOAD_BYTES } from '@agentmesh/sdk/wire'
import type { Rate } from './rate-limit.ts'

export interface RelayLimits {
  /** Largest payload of a SEND; told to agents in HELLO. At most the protocol's own maximum. */
  readonly maxPayloadBytes: number

  /** Sockets that have not connected as an agent, in all and for one IP address (IPv6: one /64). */
  readonly maxSockets: number
  readonly preAuthSocketsPerIp: number
  /** From the TCP connection to an accepted CONNECT. */
  readonly connectTimeoutMs: number
  /** CONNECTs whose signature is looked at, for one IP address. */
  readonly signatureChecksPerIp: Rate
  /** Accepted CONNECTs of one AMID: two programs that keep replacing each other are slowed down. */
  readonly connects: Rate
  /** Connections of one AMID that only send; one more is refused, and none is replaced. */
  readonly sendersPerAgent: number

  readonly sends: Rate
  readonly sendBytes: Rate
  readonly knocks: Rate
  readonly presenceQueries: Rate

  /** RECEIVEs one connection may leave unacknowledged; what comes on top waits in the mailbox. */
  readonly windowMessages: number
  readonly windowBytes: number
  /** The same over all connections, so that many idle receivers cannot fill the memory. */
  readonly totalWindowBytes: number
  /** A connection that acknowledges nothing for so long while something is unacknowledged is cut off. */
  readonly ackTimeoutMs: number
  /** Bytes that may wait in a socket the other side does not read. */
  readonly socketBufferBytes: number
  readonly pingIntervalMs: number
  /** How long a closing socket may take to finish by itself. */
  readonly closeGraceMs: number

  readonly mailboxTtlMs: number
  readonly mailboxMessages: number
  readonly mailboxBytes: number
  /** One sender's share of one mailbox. */
  readonly senderMessages: number
  readonly senderBytes: number
  /** One sender's messages in all mailboxes together. */
  readonly senderTotalMessages: number
  readonly storeBytes: number
}

const MIB = 1024 * 1024

export const DEFAULT_LIMITS: RelayLimits = {
  maxPayloadBytes: MAX_PAYLOAD_BYTES,

  maxSockets: 20_000,
  preAuthSocketsPerIp: 64,
  connectTimeoutMs: 10_000,
  signatureChecksPerIp: { perSecond: 5, burst: 120 },
  connects: { perSecond: 0.5, burst: 30 },
  sendersPerAgent: 4,

  sends: { perSecond: 2_000, burst: 4_000 },
  sendBytes: { perSecond: 8 * MIB, burst: 32 * MIB },
  knocks: { perSecond: 2, burst: 120 },
  presenceQueries: { perSecond: 1, burst: 60 },

  windowMessages: 1024,
  windowBytes: 8 * MIB,
  totalWindowBytes: 256 * MIB,
  ackTimeoutMs: 30_000,
  socketBufferBytes: 16 * MIB,
  pingIntervalMs: 30_000,
  closeGraceMs: 2_000,

  mailboxTtlMs: MAILBOX_TTL_SECONDS * 1000,
  mailboxMessages: MAILBOX_MAX_MESSAGES,
  mailboxBytes: 4 * MIB,
  senderMessages: 20,
  senderBytes: MIB,
  senderTotalMessages: 1_000,
  storeBytes: 1024 * MIB,
}
