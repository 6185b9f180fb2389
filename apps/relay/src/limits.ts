/**
 * Every number an operator may set. All buffers of the relay are bounded by one of them. Rates are tokens a second with a
 * burst on top.
 */
import { Bytes, Count, defaultsOf, Milliseconds, RateLimit } from '@agentmesh/sdk/hosting'
import { MAILBOX_MAX_MESSAGES, MAILBOX_TTL_SECONDS, MAX_PAYLOAD_BYTES, Type } from '@agentmesh/sdk/wire'
import type { Static } from 'typebox'

const MIB = 1024 * 1024

export const LimitSettings = Type.Object({
  maxPayloadBytes: Bytes(
    MAX_PAYLOAD_BYTES,
    'payload of one SEND, told to agents in HELLO',
    MAX_PAYLOAD_BYTES,
  ),

  maxSockets: Count(20_000, 'open TCP connections, agents included; beyond: 503'),
  preAuthSocketsPerIp: Count(
    64,
    'sockets of an address (IPv6: one /64) that have not connected as an agent; beyond: 429',
  ),
  connectTimeoutMs: Milliseconds(10_000, 'from the TCP connection to an accepted CONNECT'),
  signatureChecksPerIp: RateLimit(5, 120, 'CONNECTs of an address whose signature is looked at'),
  connects: RateLimit(
    0.5,
    30,
    'accepted CONNECTs of an AMID: two programs that keep replacing each other are slowed down',
  ),
  sendersPerAgent: Count(
    4,
    'connections of an AMID that only send; one more: RATE_LIMITED, and none is replaced',
  ),

  sends: RateLimit(2_000, 4_000, 'SENDs of an AMID'),
  sendBytes: RateLimit(8 * MIB, 32 * MIB, 'payload bytes of an AMID'),
  knocks: RateLimit(2, 120, 'KNOCKs of an AMID'),
  presenceQueries: RateLimit(1, 60, 'presence queries of an AMID'),

  turnCredentials: RateLimit(1 / 60, 10, 'TURN credentials given to an AMID'),

  windowMessages: Count(
    1024,
    'RECEIVEs a connection may leave unacknowledged; what comes on top waits in the mailbox',
  ),
  windowBytes: Bytes(8 * MIB, 'the same by size'),
  totalWindowBytes: Bytes(
    256 * MIB,
    'the same over all connections, so that many idle receivers cannot fill the memory',
  ),
  ackTimeoutMs: Milliseconds(30_000, 'without an ACK while one is due: cut off with SLOW_READER'),
  socketBufferBytes: Bytes(16 * MIB, 'what may wait in one socket unread; beyond: cut off with SLOW_READER'),
  pingIntervalMs: Milliseconds(30_000, 'between WebSocket pings'),
  closeGraceMs: Milliseconds(2_000, 'how long a closing socket may take to finish by itself'),

  mailboxTtlMs: Milliseconds(MAILBOX_TTL_SECONDS * 1000, 'age of stored mail'),
  mailboxMessages: Count(MAILBOX_MAX_MESSAGES, 'messages in a mailbox; beyond: MAILBOX_FULL to the sender'),
  mailboxBytes: Bytes(4 * MIB, 'the same by size'),
  senderMessages: Count(20, 'messages of one sender in one mailbox; beyond: SENDER_QUOTA'),
  senderBytes: Bytes(MIB, 'the same by size'),
  senderTotalMessages: Count(1_000, 'messages of one sender in all mailboxes; beyond: SENDER_QUOTA'),
  storeBytes: Bytes(1024 * MIB, 'all mailboxes together; beyond: RELAY_STORE_FAILED'),
})

export type RelayLimits = Readonly<Static<typeof LimitSettings>>

export const DEFAULT_LIMITS: RelayLimits = defaultsOf(LimitSettings)
