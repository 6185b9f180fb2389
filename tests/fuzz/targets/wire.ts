/** Targets of the wire layer: relay frames in both encodings, packets, strict JSON, records, identifiers. */
import {
  AgentMeshError,
  AgentRecord,
  binaryCodec,
  Bundle,
  Accept,
  amidFromBytes,
  amidToBytes,
  canonicalBytes,
  decodeAnswerPacket,
  decodeAttachmentFrame,
  decodeKnockPacket,
  decodeSessionPacket,
  DidDocument,
  encodeAnswerPacket,
  encodeAttachmentFrame,
  encodeKnockHeader,
  encodeKnockPacket,
  encodeSessionPacket,
  envelopeBytes,
  ErrorBody,
  formatIntent,
  formatKey,
  formatTimestamp,
  fromBase58,
  fromBase64,
  fromBase64Url,
  fromHex,
  idToBytes,
  jsonCodec,
  Knock,
  messageIdFromBytes,
  parseAmid,
  parseEnvelope,
  parseIntent,
  parseJson,
  parseJsonObject,
  parseKey,
  parseMessageId,
  parseTimestamp,
  PrekeyCounts,
  PrekeyUpload,
  Registration,
  Reject,
  SearchAnswer,
  SignedKey,
  toBase58,
  toBase64,
  toBase64Url,
  toHex,
  utf8Bytes,
  validate,
  type AgentFrame,
  type Envelope,
  type KnockPacket,
  type RelayCodec,
  type RelayFrame,
} from '@agentmesh/sdk/wire'
import { JSON_REFUSALS, textOf, type Target, type TargetMaker } from '../target.ts'
import { wireSeeds } from '../vectors.ts'

const LIMIT = 256 * 1024
const FRAME_REFUSALS = [
  ...JSON_REFUSALS,
  'UNKNOWN_TYPE',
  'INVALID_AMID',
  'INVALID_ID',
  'INVALID_KEY',
  'INVALID_TIMESTAMP',
] as const

const bytesOf = (data: Uint8Array | string) => (typeof data === 'string' ? utf8Bytes(data) : data)

function relayFrames(codec: RelayCodec, side: 'agent' | 'relay'): Target {
  const isBinary = codec === binaryCodec
  const dataOf = (input: Uint8Array) => (isBinary ? input : textOf(input))
  return {
    name: `relay-${isBinary ? 'binary' : 'json'}-from-${side}`,
    form: isBinary ? 'bytes' : 'json',
    ...wireSeeds(`relay frame from ${side}`, isBinary ? 'base64' : 'text'),
    refusals: FRAME_REFUSALS,
    read(input) {
      const data = dataOf(input)
      // Asked for every SEND that is refused; it has to hold its tongue on anything.
      codec.refusedSendId(data)
      return side === 'agent' ? codec.decodeFromAgent(data) : codec.decodeFromRelay(data)
    },
    write: (frame: AgentFrame | RelayFrame) => bytesOf(codec.encode(frame)),
  }
}

function record(name: string, schema: Parameters<typeof validate>[0]): TargetMaker {
  return () => ({
    name: `record-${name}`,
    form: 'json',
    ...wireSeeds(name),
    refusals: JSON_REFUSALS,
    read: (input) => validate(schema, parseJsonObject(input, LIMIT)),
    write: (value: object) => canonicalBytes(value),
  })
}

/** Accepted by us means accepted by JSON.parse, with the same value; and the canonical form is its own canonical form. */
function strictJson(): Target {
  return {
    name: 'strict-json',
    form: 'json',
    ...wireSeeds('json'),
    refusals: JSON_REFUSALS,
    read(input) {
      const value = parseJson(input, LIMIT)
      const canonical = textOf(canonicalBytes(value))
      if (textOf(canonicalBytes(JSON.parse(textOf(input)))) !== canonical)
        throw new Error('another value than JSON.parse has')
      if (textOf(canonicalBytes(JSON.parse(canonical))) !== canonical)
        throw new Error('canonical form is not a fixed point')
      return value
    },
    write: (value: unknown) => canonicalBytes(value),
  }
}

interface Spelling {
  readonly prefix: string
  readonly read: (text: string) => unknown
  readonly write: (value: never) => string
}

/** Each text of one spelling: what is read is written the same way again, to the letter. */
const SPELLINGS: readonly Spelling[] = [
  { prefix: 'amid', read: (text) => amidToBytes(parseAmid(text)), write: (value: Uint8Array) => amidFromBytes(value) },
  { prefix: 'uuid', read: (text) => idToBytes(parseMessageId(text)), write: (value: Uint8Array) => messageIdFromBytes(value) },
  { prefix: 'key-ed25519', read: (text) => parseKey('ed25519', text), write: (value: Uint8Array) => formatKey('ed25519', value) },
  { prefix: 'key-mlkem768', read: (text) => parseKey('mlkem768', text), write: (value: Uint8Array) => formatKey('mlkem768', value) },
  { prefix: 'base64', read: fromBase64, write: toBase64 },
  { prefix: 'base64url', read: fromBase64Url, write: toBase64Url },
  { prefix: 'hex', read: fromHex, write: toHex },
  { prefix: 'base58', read: fromBase58, write: toBase58 },
] // prettier-ignore

const SPELLING_SEEDS = [
  'amid 32hYegm9CwQeQ31d593RoCrqrkCZ',
  'amid 31kg6m5FivdLhmcctKMbucnBEA8V',
  'uuid 0b9a3c1e-5d2f-4a6b-8c7d-9e0f1a2b3c4d',
  'key-ed25519 ed25519:i2dw9QSMlHv+eNfX3me/UUIMH3LKjekS2P/Ps9ekcbM=',
  `key-mlkem768 mlkem768:${toBase64(new Uint8Array(1184).fill(7))}`,
  'base64 3k3l1ymWk6NVpo0yOktY1A==',
  'base64url 3k3l1ymWk6NVpo0yOktY1A',
  'hex 00ff7a',
  'base58 1123ABCxyz',
]

function spellings(): Target {
  return {
    name: 'spellings',
    form: 'text',
    seeds: SPELLING_SEEDS.map(utf8Bytes),
    words: [
      '=',
      '==',
      '-',
      ' ',
      '\n',
      '\0',
      'O',
      'I',
      'l',
      '0',
      '1',
      'ed25519:',
      '\u0130',
      '\u212a',
      '\u017f',
      'é',
      '\u{1d7d9}',
    ],
    refusals: ['MALFORMED', 'INVALID_AMID', 'INVALID_ID', 'INVALID_KEY'],
    read(input) {
      const [prefix, text] = splitOnce(textOf(input))
      const spelling = SPELLINGS.find((candidate) => candidate.prefix === prefix)
      if (spelling === undefined) throw new AgentMeshError('MALFORMED', 'names no spelling')
      const value = spelling.read(text)
      if (spelling.write(value as never) !== text) throw new Error('a second spelling of the same bytes')
      return value
    },
  }
}

function splitOnce(text: string): readonly [string, string] {
  const at = text.indexOf(' ')
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
}

function timestamps(): Target {
  return {
    name: 'timestamp',
    form: 'text',
    ...wireSeeds('timestamp'),
    words: [
      '02-29',
      '02-30',
      '23:59:60',
      '24:00:00',
      'Z',
      '+00:00',
      '.000',
      '.1',
      '0000',
      '9999',
      '-',
      '+',
      'T',
      't',
      '\u0660',
    ],
    refusals: ['INVALID_TIMESTAMP'],
    read: (input) => parseTimestamp(textOf(input)),
    write: (milliseconds: number) => utf8Bytes(formatTimestamp(milliseconds)),
  }
}

function intents(): Target {
  return {
    name: 'intent',
    form: 'text',
    seeds: ['travel', 'travel/flights', 'x-acme/parts', 'x-acme/parts/bolts'].map(utf8Bytes),
    words: ['/', '//', 'x-', '*', '..', '\0'],
    refusals: [],
    read: (input) => parseIntent(textOf(input)),
    write: (intent: { category: string; subcategory?: string }) => utf8Bytes(formatIntent(intent)),
  }
}

export const WIRE_TARGETS: Readonly<Record<string, TargetMaker>> = {
  'relay-binary-from-agent': () => relayFrames(binaryCodec, 'agent'),
  'relay-binary-from-relay': () => relayFrames(binaryCodec, 'relay'),
  'relay-json-from-agent': () => relayFrames(jsonCodec, 'agent'),
  'relay-json-from-relay': () => relayFrames(jsonCodec, 'relay'),
  'packet-knock': () => ({
    name: 'packet-knock',
    form: 'bytes',
    ...wireSeeds('packet-knock', 'base64'),
    refusals: ['MALFORMED', 'TOO_LARGE'],
    read: decodeKnockPacket,
    write: ({ header, sealedKnock, optimisticMessage }: KnockPacket) =>
      encodeKnockPacket(encodeKnockHeader(header), sealedKnock, optimisticMessage),
  }),
  'packet-answer': () => ({
    name: 'packet-answer',
    form: 'bytes',
    ...wireSeeds('packet-answer', 'base64'),
    refusals: ['MALFORMED'],
    read: decodeAnswerPacket,
    write: encodeAnswerPacket,
  }),
  'packet-session': () => ({
    name: 'packet-session',
    form: 'bytes',
    ...wireSeeds('packet-session', 'base64'),
    refusals: ['MALFORMED', 'INVALID_ID'],
    read: decodeSessionPacket,
    write: encodeSessionPacket,
  }),
  'attachment-frame': () => ({
    name: 'attachment-frame',
    form: 'bytes',
    ...wireSeeds('attachment-frame', 'base64'),
    refusals: ['MALFORMED', 'INVALID_ID'],
    read: decodeAttachmentFrame,
    write: encodeAttachmentFrame,
  }),
  'strict-json': strictJson,
  envelope: () => ({
    name: 'envelope',
    form: 'json',
    ...wireSeeds('envelope'),
    refusals: [...JSON_REFUSALS, 'UNSUPPORTED_TYPE'],
    read: (input) => parseEnvelope(parseJsonObject(input, LIMIT)),
    write: (envelope: Envelope) => envelopeBytes(envelope),
  }),
  'record-knock': record('knock', Knock),
  'record-accept': record('accept', Accept),
  'record-reject': record('reject', Reject),
  'record-signed-key': record('signed-key', SignedKey),
  'record-bundle': record('bundle', Bundle),
  'record-registration': record('registration', Registration),
  'record-agent-record': record('agent-record', AgentRecord),
  'record-search-answer': record('search-answer', SearchAnswer),
  'record-prekey-upload': record('prekey-upload', PrekeyUpload),
  'record-prekey-counts': record('prekey-counts', PrekeyCounts),
  'record-error-body': record('error-body', ErrorBody),
  'record-did-document': record('did-document', DidDocument),
  spellings,
  timestamp: timestamps,
  intent: intents,
}
