/** Runs `test-vectors/wire/`: every case through the reader its file names, see the README there. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import type { TSchema } from 'typebox'
import { describe, expect, it } from 'vitest'
import { decodeAttachmentFrame, encodeAttachmentFrame } from './attachment.ts'
import { concatBytes, fromBase64, toBase64, toHex, utf8Bytes } from './bytes.ts'
import { ERROR_CODES, isAgentMeshError } from './errors.ts'
import { parseEnvelope } from './envelope.ts'
import { amidToBytes, idToBytes, parseAmid, parseMessageId, parseSessionId } from './ids.ts'
import * as wire from './index.ts'
import { canonicalText, parseJson, parseJsonObject } from './json.ts'
import {
  decodeAnswerPacket,
  decodeKnockPacket,
  decodeSessionPacket,
  encodeAnswerPacket,
  encodeKnockHeader,
  encodeKnockPacket,
  encodeSessionPacket,
} from './packets.ts'
import { binaryCodec } from './relay-binary.ts'
import type { AgentFrame, RelayFrame } from './relay-frames.ts'
import { JSON_FRAMES, jsonCodec } from './relay-json.ts'
import { parseReset } from './reset.ts'
import { formatKey, parseKey, validate, type KeyAlgorithm } from './schema.ts'
import { parseTimestamp } from './time.ts'

const LIMIT = 1_000_000
const folder = new URL('../../../../test-vectors/wire/', import.meta.url)

type Piece = string | { base64: string }
type Input =
  | { text: string }
  | { base64: string }
  | { repeat: Record<'before' | 'unit' | 'after', Piece> & { times: number } }
interface VectorCase {
  description: string
  input: Input
  expect: string
  canonical?: string
  binary?: string
  hex?: string
  milliseconds?: number
  algorithm?: KeyAlgorithm
  value?: unknown
}
interface VectorFile {
  message: string
  reader: string
  about: string
  cases: VectorCase[]
}
type Reader = (input: string | Uint8Array, vector: VectorCase) => Partial<VectorCase>

const files = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .map((name) => ({
    name: name.slice(0, -'.json'.length),
    file: JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as VectorFile,
  }))

/** Schemas with an `$id`, by it: every message type there is. */
const schemas = new Map(
  [...Object.values(wire), ...Object.values(JSON_FRAMES)]
    .filter((value: unknown) => typeof value === 'object' && value !== null && '$id' in value)
    .map((value) => value as unknown as TSchema & { $id: string })
    .map((schema) => [schema.$id.slice('agentmesh/'.length), schema]),
)

function materialize(input: Input): string | Uint8Array {
  if ('text' in input) return input.text
  if ('base64' in input) return fromBase64(input.base64)
  const { before, unit, times, after } = input.repeat
  if (typeof before === 'string') return before + (unit as string).repeat(times) + (after as string)
  const [head, middle, tail] = [before, unit, after].map((piece) =>
    fromBase64((piece as { base64: string }).base64),
  )
  return concatBytes(
    head!,
    Uint8Array.from({ length: times * middle!.length }, (_, i) => middle![i % middle!.length]!),
    tail!,
  )
}

function text(input: string | Uint8Array): string {
  if (typeof input !== 'string') throw new Error('this reader takes text')
  return input
}

function bytes(input: string | Uint8Array): Uint8Array {
  if (typeof input === 'string') throw new Error('this reader takes bytes')
  return input
}

function relayFrame(decode: 'decodeFromAgent' | 'decodeFromRelay'): Reader {
  return (input) => {
    const codec = typeof input === 'string' ? jsonCodec : binaryCodec
    const frame: AgentFrame | RelayFrame = codec[decode](input)
    return {
      canonical: canonicalText(JSON.parse(jsonCodec.encode(frame) as string)),
      binary: toBase64(binaryCodec.encode(frame) as Uint8Array),
    }
  }
}

function record(schema: TSchema): Reader {
  return (input) => ({ canonical: canonicalText(validate(schema, parseJsonObject(input, LIMIT))) })
}

const readers: Record<string, Reader> = {
  'relay frame from agent': relayFrame('decodeFromAgent'),
  'relay frame from relay': relayFrame('decodeFromRelay'),
  envelope: (input) => ({ canonical: canonicalText(parseEnvelope(parseJsonObject(input, LIMIT))) }),
  reset: (input) => ({ canonical: canonicalText(parseReset(parseJsonObject(input, LIMIT))) }),
  json: (input) => ({ canonical: canonicalText(parseJson(input, LIMIT)) }),
  amid: (input) => ({ hex: toHex(amidToBytes(parseAmid(text(input)))) }),
  'session-id': (input) => ({ hex: toHex(idToBytes(parseSessionId(text(input)))) }),
  'message-id': (input) => ({ hex: toHex(idToBytes(parseMessageId(text(input)))) }),
  timestamp: (input) => ({ milliseconds: parseTimestamp(text(input)) }),
  'public-key': (input, { algorithm }) => {
    const key = parseKey(algorithm!, text(input))
    expect(formatKey(algorithm!, key)).toBe(input)
    return { algorithm: algorithm!, hex: toHex(key) }
  },
  'packet-knock': (input) => {
    const packet = decodeKnockPacket(bytes(input))
    const { header } = packet
    const sealed = packet.sealedKnock
    expect(encodeKnockPacket(encodeKnockHeader(header), sealed, packet.optimisticMessage)).toEqual(input)
    return {
      value: {
        header: {
          ...header,
          oneTimePrekeyId: header.oneTimePrekeyId ?? null,
          identityKey: toBase64(header.identityKey),
          ephemeralKey: toBase64(header.ephemeralKey),
          ratchetKey: toBase64(header.ratchetKey),
          kemCiphertext: toBase64(header.kemCiphertext),
        },
        sealedKnock: toBase64(sealed),
        optimisticMessage: packet.optimisticMessage ? toBase64(packet.optimisticMessage) : null,
        knockHash: createHash('sha256').update(packet.knockBytes).digest('base64'),
      },
    }
  },
  'packet-answer': (input) => {
    const packet = decodeAnswerPacket(bytes(input))
    expect(encodeAnswerPacket(packet)).toEqual(input)
    return {
      value: { knockHash: toBase64(packet.knockHash), ratchetMessage: toBase64(packet.ratchetMessage) },
    }
  },
  'packet-session': (input) => {
    const packet = decodeSessionPacket(bytes(input))
    expect(encodeSessionPacket(packet)).toEqual(input)
    return { value: { sessionId: packet.sessionId, ratchetMessage: toBase64(packet.ratchetMessage) } }
  },
  'attachment-frame': (input) => {
    const frame = decodeAttachmentFrame(bytes(input))
    expect(encodeAttachmentFrame(frame)).toEqual(input)
    return { value: frame.kind === 'chunk' ? { ...frame, bytes: toBase64(frame.bytes) } : frame }
  },
}

function readerOf(file: VectorFile): Reader {
  const schema = schemas.get(file.reader)
  const reader = readers[file.reader] ?? (schema && record(schema))
  if (!reader) throw new Error(`no reader ${file.reader}`)
  return reader
}

describe.each(files)('test-vectors/wire: $name', ({ file }) => {
  it.each(file.cases)('$description: $expect', (vector) => {
    const input = materialize(vector.input)
    const { description: _, input: __, expect: outcome, ...wanted } = vector
    let found: Partial<VectorCase>
    try {
      found = readerOf(file)(input, vector)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      expect(error.code).toBe(outcome)
      return
    }
    expect('ok').toBe(outcome)
    expect(Object.keys(wanted)).not.toHaveLength(0)
    expect(found).toEqual(wanted)
  })

  it('has unique descriptions, and expects ok or a code that exists', () => {
    const descriptions = file.cases.map((vector) => vector.description)
    expect(new Set(descriptions).size).toBe(descriptions.length)
    for (const vector of file.cases) expect(['ok', ...Object.keys(ERROR_CODES)]).toContain(vector.expect)
  })

  it('has a valid and three invalid cases at least, in each encoding of its kind', () => {
    const relay = file.reader.startsWith('relay frame')
    for (const binary of relay ? [true, false] : [undefined]) {
      const cases = file.cases.filter((vector) => {
        return binary === undefined || materialize(vector.input) instanceof Uint8Array === binary
      })
      expect(cases.filter((vector) => vector.expect === 'ok').length).toBeGreaterThanOrEqual(1)
      expect(cases.filter((vector) => vector.expect !== 'ok').length).toBeGreaterThanOrEqual(3)
    }
  })
})

it('has a file for every message type', () => {
  expect(schemas.size).toBeGreaterThan(25)
  const names = files.map(({ name }) => name)
  for (const id of schemas.keys()) {
    // An envelope is read together with its payload.
    const name =
      id === 'envelope' ? 'envelope-request' : id.replace(/^payload\//, 'envelope-').replace('/', '-')
    expect(names).toContain(name)
  }
  expect(names).toEqual(
    expect.arrayContaining([
      'packet-knock',
      'packet-answer',
      'packet-session',
      'attachment-frame',
      'strict-json',
    ]),
  )
})

it('brings the attacks of every JSON message', () => {
  const attacks = ['JSON_DUPLICATE_KEY', 'JSON_FORBIDDEN_KEY', 'JSON_DEPTH', 'JSON_NUMBER', 'JSON_SURROGATE']
  for (const { file } of files) {
    if (!file.cases.some((vector) => vector.canonical)) continue
    expect(file.cases.map((vector) => vector.expect)).toEqual(expect.arrayContaining(attacks))
  }
})

it('a canonical form is canonical: reading it gives it back', () => {
  for (const { file } of files) {
    for (const { canonical } of file.cases) {
      if (canonical === undefined) continue
      expect(canonicalText(parseJson(utf8Bytes(canonical), LIMIT))).toBe(canonical)
    }
  }
})
