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
  socketsPerIp: Count(1_000, 'the same of an address (IPv6: one /64); beyond: 429'),
  socketsOpenedPerIp: RateLimit(50, 1_000, 'TCP connections that an address opens; beyond: 429'),
  preAuthSocketsPerIp: Count(64, 'of these, those that have not connected as an agent; beyond: 429'),
  connectTimeoutMs: Milliseconds(10_000, 'from the TCP connection to an accepted CONNECT'),
  signatureChecksPerIp: RateLimit(5, 120, 'CONNECTs of an address whose signature is looked at'),
  requestsPerIp: RateLimit(20, 300, 'HTTP requests of an address, upgrades aside; beyond: 429'),
  framesPerIp: RateLimit(10_000, 40_000, 'WebSocket frames of an address; beyond, they are read later'),
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
  knocksPerIp: RateLimit(10, 600, 'KNOCKs of all agents of an address'),
  receiversPerIp: RateLimit(10, 1_000, 'AMIDs that agents of an address begin to write to'),
  presenceQueries: RateLimit(1, 60, 'presence queries, and changes of its own presence, of an AMID'),
  presenceQueriesPerIp: RateLimit(20, 600, 'the same of all agents of an address'),

  turnCredentials: RateLimit(1 / 60, 10, 'TURN credentials given to an AMID'),
  turnCredentialsPerIp: RateLimit(1 / 60, 30, 'TURN credentials given to all agents of an address'),

  windowMessages: Count(
    1024,
    'RECEIVEs a connection may leave unacknowledged; what comes on top waits in the mailbox',
  ),
  windowBytes: Bytes(8 * MIB, 'the same by size'),
  windowBytesPerIp: Bytes(64 * MIB, 'the same over all connections of an address'),
  totalWindowBytes: Bytes(
    256 * MIB,
    'the same over all connections, so that many idle receivers cannot fill the memory',
  ),
  ackTimeoutMs: Milliseconds(30_000, 'without an ACK while one is due: cut off with SLOW_READER'),
  unfinishedBytesPerIp: Bytes(
    32 * MIB,
    'memory for messages of an address whose end has not come; beyond: cut off with RATE_LIMITED',
  ),
  answerBufferBytes: Bytes(
    256 * 1024,
    'what may wait in one socket unread before no more is read from it either',
  ),
  socketBufferBytes: Bytes(16 * MIB, 'what may wait in one socket unread; beyond: cut off with SLOW_READER'),
  pingIntervalMs: Milliseconds(30_000, 'between WebSocket pings'),
  closeGraceMs: Milliseconds(2_000, 'how long a closing socket may take to finish by itself'),

  mailboxTtlMs: Milliseconds(MAILBOX_TTL_SECONDS * 1000, 'age of stored mail'),
  mailboxMessages: Count(MAILBOX_MAX_MESSAGES, 'messages in a mailbox; beyond: MAILBOX_FULL to the sender'),
  mailboxBytes: Bytes(4 * MIB, 'the same by size'),
  senderMessages: Count(20, 'messages of one sender in one mailbox; beyond: SENDER_QUOTA'),
  senderBytes: Bytes(MIB, 'the same by size'),
  senderTotalMessages: Count(1_000, 'messages of one sender in all mailboxes; beyond: SENDER_QUOTA'),
  mailboxMessagesPerIp: Count(
    50,
    'messages of all senders of an address in one mailbox; beyond: SENDER_QUOTA',
  ),
  mailboxBytesPerIp: Bytes(2 * MIB, 'the same by size'),
  storeMessagesPerIp: Count(
    20_000,
    'messages of all senders of an address in all mailboxes; beyond: SENDER_QUOTA',
  ),
  storeBytesPerIp: Bytes(64 * MIB, 'the same by size'),
  storeMessages: Count(1_000_000, 'messages in all mailboxes together; beyond: RELAY_STORE_FAILED'),
  storeBytes: Bytes(1024 * MIB, 'the same by size'),
  stateCounters: Count(
    1_000_000,
    'agents whose state counter is kept, for 30 days after it moved last; beyond, no new one is kept',
  ),
  stateCountersPerIp: RateLimit(1 / 60, 100, 'agents of an address whose state counter begins to be kept'),
})

export type RelayLimits = Readonly<Static<typeof LimitSettings>>

export const DEFAULT_LIMITS: RelayLimits = defaultsOf(LimitSettings)
