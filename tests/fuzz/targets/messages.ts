/**
 * Targets of messages: packets of an open session, what a peer says inside the encryption, RESET, and the schemas that an
 * owner installs.
 */
import { ratchetEncrypt, sign } from '../../../packages/sdk/src/crypto/index.ts'
import { createMessage, SchemaBook } from '../../../packages/sdk/src/messages/index.ts'
import {
  close,
  failure,
  makeEnds,
  readMessage,
  receipt,
  request,
  response,
  status,
} from '../../../packages/sdk/src/messages/test-support.ts'
import { associatedData, consumeReset, createReset } from '../../../packages/sdk/src/session/index.ts'
import { NOW } from '../../../packages/sdk/src/identity/test-support.ts'
import { environment } from '../../../packages/sdk/src/session/test-support.ts'
import {
  canonicalBytes,
  encodeSessionPacket,
  idToBytes,
  parseJsonObject,
  STANDARD_SCHEMAS,
  toBase64,
  unsignedBytes,
  type ErrorCode,
} from '@agentmesh/sdk/wire'
import { JSON_REFUSALS, type Target, type TargetMaker } from '../target.ts'
import { wireSeeds } from '../vectors.ts'
import { RATCHET_REFUSALS, signedJson } from './session.ts'

const MESSAGE_REFUSALS: readonly ErrorCode[] = [
  ...JSON_REFUSALS,
  ...RATCHET_REFUSALS,
  'SESSION_MISMATCH',
  'INVALID_ID',
  'INVALID_SIGNATURE',
  'TIME_IMPLAUSIBLE',
  'SEQUENCE_REPEATED',
  'SESSION_CLOSED',
  'SESSION_EXPIRED',
  'LIMIT_MESSAGES',
  'LIMIT_SIZE',
  'OUT_OF_TURN',
  'UNSUPPORTED_TYPE',
  'ENVELOPE_UNREADABLE',
  'RECEIPTS_IMPOSSIBLE',
]

/** Both ends of a session in which each has spoken, so that the next message opens with symmetric keys alone. */
function talking() {
  const { alice, bob } = makeEnds()
  const env = environment('talk')
  const first = createMessage(alice.session, request(), alice.identity, env)
  const atBob = readMessage(bob.session, first.packet, 'message', env).session
  return { alice: { ...alice, session: first.session }, bob: { ...bob, session: atBob } }
}

function messages(): Target {
  const { alice, bob } = talking()
  const drafts = [request(), status(), receipt(), failure(), response({ a: [1, 'x', null] })]
  return {
    name: 'message',
    form: 'bytes',
    seeds: drafts.map(
      (draft) => createMessage(alice.session, draft, alice.identity, environment('send')).packet,
    ),
    refusals: MESSAGE_REFUSALS,
    read: (input) => readMessage(bob.session, input, 'message', environment('read')),
  }
}

/** What a peer can say inside the encryption. */
function messagesInside(): Target {
  const { alice, bob } = talking()
  const { session, identity } = alice
  const place = associatedData({
    type: 'message',
    version: session.version,
    context: idToBytes(session.id),
    from: session.self,
    to: session.peer,
  })
  const drafts = [request(), status(), receipt(), failure(), response({ a: [1, 'x', null] })]
  return {
    name: 'message-inside',
    form: 'json',
    seeds: drafts.map((draft) =>
      canonicalBytes(createMessage(session, draft, identity, environment('send')).envelope),
    ),
    edges: [
      canonicalBytes(createMessage(session, close(), identity, environment('send')).envelope),
      ...wireSeeds('envelope').edges,
    ],
    refusals: MESSAGE_REFUSALS,
    dress: (input) =>
      signedJson(input, (fields) =>
        sign('envelope', identity.signing.secretKey, Uint8Array.of(1), unsignedBytes(fields)),
      ),
    read(input) {
      const { message } = ratchetEncrypt(session.ratchet, input, place, environment('seal'))
      const packet = encodeSessionPacket({ sessionId: session.id, ratchetMessage: message })
      return readMessage(bob.session, packet, 'message', environment('read')).envelope
    },
  }
}

/** A RESET as a peer signs it; the relay and a hostile peer can make it say anything. */
function resets(): Target {
  const { alice, bob } = talking()
  const { session } = alice
  const packet = new Uint8Array(300).fill(7)
  const notice = { to: alice.identity.amid, packet, reason: 'undecryptable', receivedUpTo: 3 } as const
  const ofKnock = { to: alice.identity.amid, packet, reason: 'prekey_unknown' } as const
  const { publicKey, secretKey } = bob.identity.signing
  const place = { from: bob.identity.amid, to: alice.identity.amid, peerSigningKey: publicKey, now: NOW }
  return {
    name: 'reset',
    form: 'json',
    seeds: [
      createReset(bob.identity, { ...notice, about: { session_id: session.id } }, NOW),
      createReset(bob.identity, { ...ofKnock, about: { knock_hash: toBase64(new Uint8Array(32)) } }, NOW),
    ],
    edges: wireSeeds('reset').seeds,
    refusals: [
      ...JSON_REFUSALS,
      'INVALID_KEY',
      'AMID_MISMATCH',
      'RESET_MISMATCH',
      'INVALID_SIGNATURE',
      'TIME_IMPLAUSIBLE',
    ],
    dress: (input) => signedJson(input, (fields) => sign('reset', secretKey, unsignedBytes(fields))),
    read: (input) => consumeReset(input, place),
    write: (reset: object) => canonicalBytes(reset),
  }
}

/** Values that cost a schema's patterns and loops the most. */
const COSTLY_VALUES: readonly unknown[] = [
  `${'a'.repeat(5_000)}!`,
  { a: 'a'.repeat(5_000), b: Array.from({ length: 500 }, (_, index) => index) },
  Array.from({ length: 500 }, () => ({ a: 1 })),
  { 'key-of-a-pattern': '1'.repeat(5_000), parts: [{ id: 'x', parts: [{ id: 'y' }] }] },
]

const OWN_SCHEMAS = [
  {
    $id: 'x-acme/parts/v1',
    type: 'object',
    required: ['a'],
    properties: {
      a: { type: 'string', pattern: '^[a-z]{1,8}-?(x|y)?$', maxLength: 100 },
      b: { type: 'array', uniqueItems: true, maxItems: 10, items: { type: 'integer', minimum: 0 } },
      c: { $ref: '#/definitions/part' },
    },
    patternProperties: { '^key-.*$': { type: 'string' } },
    definitions: { part: { type: 'object', properties: { id: { enum: ['x', 'y', null] } } } },
  },
  {
    $id: 'x-acme/any/v2',
    title: 'Any',
    anyOf: [
      { type: 'string', format: 'date-time' },
      { type: 'number', multipleOf: 0.5 },
      { not: { const: 1 } },
    ],
  },
]
/** The compiler keeps what it compiled, as long as its book lives. */
const SCHEMAS_A_BOOK = 100

function installedSchemas(): Target {
  let book = new SchemaBook()
  let count = 0
  return {
    name: 'installed-schema',
    form: 'json',
    seeds: OWN_SCHEMAS.map((schema) => canonicalBytes(schema)),
    refusals: ['SCHEMA_INVALID'],
    read(input) {
      if (++count % SCHEMAS_A_BOOK === 0) book = new SchemaBook()
      const installed = book.install(input)
      for (const value of COSTLY_VALUES) book.checkParameters(installed.name, value, 'strict')
      return installed
    },
  }
}

/** What a peer says it sends, against the standard schemas: judged, never thrown at. */
function checkedValues(): Target {
  const book = new SchemaBook()
  const names = Object.keys(STANDARD_SCHEMAS)
  return {
    name: 'schema-check',
    form: 'json',
    seeds: [request(), response({ flights: [{ price: 1 }] })].map(({ payload }) => canonicalBytes(payload)),
    refusals: JSON_REFUSALS,
    read(input) {
      const value = parseJsonObject(input, 128 * 1024)
      return names.flatMap((name) => [
        book.checkParameters(name, value['parameters'], 'strict').outcome,
        book.checkResults(name, value['results'], 'warn').outcome,
      ])
    },
  }
}

export const MESSAGE_TARGETS: Readonly<Record<string, TargetMaker>> = {
  message: messages,
  'message-inside': messagesInside,
  reset: resets,
  'installed-schema': installedSchemas,
  'schema-check': checkedValues,
}
