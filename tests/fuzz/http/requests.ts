/**
 * Hostile requests for every operation of an OpenAPI document, by number.
 *
 *     operation -> what its schemas take, or a true request -> changes of body, query, path, method, headers -> signature
 *
 * Most are signed over what is sent, by a key that may: what is behind the signature is what is to be reached.
 */
import { MAX_SWOLLEN_BYTES, mutateBytes, swell } from '../mutate-bytes.ts'
import { isLongerThan, mutateTree, parseTree, printTree } from '../mutate-json.ts'
import { Random } from '../random.ts'
import { valueOf, type Schema, type Values } from './schema-values.ts'

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required?: boolean
  readonly schema: Schema
}

interface OperationObject {
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
  readonly security?: readonly Readonly<Record<string, unknown>>[]
}

export interface OpenApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> }
}

export interface Operation extends OperationObject {
  /** `POST /v1/...` */
  readonly id: string
  readonly method: string
  readonly path: string
}

export type Credential = 'none' | 'right' | 'wrong' | 'other body' | 'stale' | 'replayed'

export interface HostileRequest {
  readonly operation: string
  readonly method: string
  /** Path and query as they go over the wire. */
  readonly target: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | undefined
  readonly scheme: 'none' | 'signature' | 'token'
  readonly credential: Credential
  /** Which of the keys signs. */
  readonly signer: number
}

/** No name of a database or a file, so that one in an answer is the server's. */
const HOSTILE = [
  '', '%00', '%ff%fe', '%', '%zz', '..%2f..%2f', '../../..', "'%20or%201=1--", '%22;drop%20table', '__proto__', 'constructor',
  '*', '%2a', 'a'.repeat(129), 'a'.repeat(3_000), '%f0%9f%98%80', '%e2%80%ae', '-1', '1e400', 'NaN', '9007199254740993', '0x10',
  'null', '[]', '{}', '%0d%0aset-cookie:%20a=1', '%ed%a0%80', 'AAAA', '===', '%5b%5d', '%7b%22a%22:1%7d',
] // prettier-ignore
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND']
const TYPES = [
  'text/plain',
  'application/json; charset=utf-16',
  'application/xml',
  'multipart/form-data',
  'a',
  '',
]
const EXTRA_HEADERS: readonly Readonly<Record<string, string>>[] = [
  { 'content-encoding': 'gzip' },
  { 'x-http-method-override': 'DELETE' },
  { 'x-forwarded-for': '203.0.113.9' },
  { authorization: 'Bearer ' },
  { authorization: `Bearer ${'a'.repeat(600)}` },
  { signature: 'sig1=:AAAA:', 'signature-input': 'sig1=()' },
  { 'signature-input': '(((' },
  { 'agentmesh-key': 'ed25519:AAAA' },
  { 'content-digest': 'sha-256=:AAAA:' },
  { accept: 'text/html' },
  { 'x-long': 'a'.repeat(8_000) },
]

export class RequestSource {
  readonly operations: readonly Operation[]
  readonly #values: Values
  readonly #named: Readonly<Record<string, readonly string[]>>
  readonly #samples: Readonly<Record<string, readonly object[]>>
  readonly #seed: number
  readonly #signers: number

  /**
   * @param named values that parameters of a name may have with effect; the one at place n for signer n
   * @param samples true bodies by operation, beside those that the schemas give; the one at place n is true from signer n
   */
  constructor(
    document: OpenApiDocument,
    options: {
      readonly seed: number
      readonly words: readonly string[]
      readonly named: Readonly<Record<string, readonly string[]>>
      readonly signers: number
      readonly samples: Readonly<Record<string, readonly object[]>>
    },
  ) {
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => {
        const name = method.toUpperCase()
        return { ...operation, path, method: name, id: `${name} ${path}` }
      }),
    )
    this.#values = { schemas: document.components?.schemas ?? {}, words: options.words }
    this.#named = options.named
    this.#samples = options.samples
    this.#seed = options.seed
    this.#signers = options.signers
  }

  at(index: number): HostileRequest {
    const random = new Random(this.#seed, 'http', index)
    // In turn, so that no operation is left out.
    const operation = this.operations[index % this.operations.length]
    if (operation === undefined) throw new Error('the document describes no operation')
    const signer = random.below(this.#signers)
    const body = this.#body(operation, signer, random)
    const type = random.oneIn(25) ? random.pick(TYPES) : 'application/json'
    return {
      operation: operation.id,
      method: random.oneIn(25) ? random.pick(METHODS) : operation.method,
      target: this.#target(operation, signer, random),
      headers: {
        ...(body === undefined ? {} : { 'content-type': type }),
        ...(random.oneIn(15) ? random.pick(EXTRA_HEADERS) : {}),
      },
      body,
      scheme: schemeOf(operation),
      credential: random.oneIn(6)
        ? random.pick<Credential>(['none', 'wrong', 'other body', 'stale', 'replayed'])
        : 'right',
      signer,
    }
  }

  /** True requests but for a zero byte in one text each: no text has one, and not every database takes it. */
  withZeroBytes(): HostileRequest[] {
    return this.operations.flatMap((operation, index) => {
      const random = new Random(this.#seed, 'zero', index)
      const { parameters = [] } = operation
      const schema = operation.requestBody?.content['application/json']?.schema
      const body = this.#samples[operation.id]?.[0] ?? valueOf(schema ?? {}, this.#values, random)
      const text = schema === undefined ? undefined : JSON.stringify(body)
      const request = (target: string, content: string | undefined): HostileRequest => ({
        operation: operation.id,
        method: operation.method,
        target,
        headers: content === undefined ? {} : { 'content-type': 'application/json' },
        body: content === undefined ? undefined : Buffer.from(content),
        scheme: schemeOf(operation),
        credential: 'right',
        signer: 0,
      })
      const asked = (zero: string | undefined) => {
        const value = ({ name, schema: of }: Parameter) =>
          name === zero
            ? 'a%00'
            : (this.#named[name]?.[0] ?? encodeURIComponent(String(valueOf(of, this.#values, random))))
        const path = operation.path.replaceAll(/\{([^}]+)\}/g, (_, name: string) =>
          value(
            parameters.find((one) => one.in === 'path' && one.name === name) ?? {
              name,
              in: 'path',
              schema: {},
            },
          ),
        )
        const query = parameters
          .filter((one) => one.in === 'query' && (one.required === true || one.name === zero))
          .map((one) => `${one.name}=${value(one)}`)
        return query.length === 0 ? path : `${path}?${query.join('&')}`
      }
      const strings = text === undefined ? [] : [...text.matchAll(/:"((?:[^"\\]|\\.)*)"/g)]
      return [
        ...parameters.map(({ name }) => request(asked(name), text)),
        ...strings.map(({ index: at, 0: field }) =>
          request(
            asked(undefined),
            `${text!.slice(0, at)}${field.slice(0, -1)}\\u0000"${text!.slice(at + field.length)}`,
          ),
        ),
      ]
    })
  }

  #target({ path, parameters = [] }: Operation, signer: number, random: Random): string {
    const text = (name: string, schema: Schema) => {
      if (random.oneIn(3)) return random.pick(HOSTILE)
      const known = this.#named[name]
      if (known !== undefined && !random.oneIn(4)) {
        return (random.oneIn(2) ? known[signer] : undefined) ?? random.pick(known)
      }
      const value = valueOf(schema, this.#values, random)
      return encodeURIComponent(typeof value === 'string' ? value : JSON.stringify(value))
    }
    const filled = path.replaceAll(/\{([^}]+)\}/g, (_, name: string) =>
      text(
        name,
        parameters.find((parameter) => parameter.in === 'path' && parameter.name === name)?.schema ?? {},
      ),
    )
    const query = parameters
      .filter((parameter) => parameter.in === 'query')
      .filter(({ required }) => (required === true ? !random.oneIn(12) : random.oneIn(3)))
      .map(({ name, schema }) => `${name}=${text(name, schema)}`)
    if (random.oneIn(12)) query.push(`${random.pick(HOSTILE)}=${random.pick(HOSTILE)}`)
    if (query[0] !== undefined && random.oneIn(15)) query.push(query[0])
    return query.length === 0 ? filled : `${filled}?${query.join('&')}`
  }

  #body(operation: Operation, signer: number, random: Random): Uint8Array | undefined {
    const schema = operation.requestBody?.content['application/json']?.schema
    if (schema === undefined) return random.oneIn(20) ? random.bytes(random.below(200)) : undefined
    if (random.oneIn(30)) return undefined
    const samples = this.#samples[operation.id] ?? []
    const own = samples[(random.oneIn(6) ? random.below(this.#signers) : signer) % samples.length]
    const value = own === undefined || random.oneIn(4) ? valueOf(schema, this.#values, random) : own
    let tree = parseTree(JSON.stringify(value))
    const other = parseTree(JSON.stringify(valueOf(schema, this.#values, random)))
    for (let changes = random.below(4); changes > 0; changes--) {
      const next = mutateTree(tree, random, other)
      if (isLongerThan(next, MAX_SWOLLEN_BYTES)) break
      tree = next
    }
    let bytes: Uint8Array = Buffer.from(printTree(tree))
    if (random.oneIn(12)) bytes = mutateBytes(bytes, random, Buffer.from(printTree(other)))
    if (random.oneIn(60)) bytes = swell(bytes, random)
    if (random.oneIn(60)) bytes = nested(random)
    return bytes
  }
}

function schemeOf(operation: Operation): HostileRequest['scheme'] {
  const schemes = Object.keys(operation.security?.[0] ?? {})
  return schemes.includes('adminToken') ? 'token' : schemes.length > 0 ? 'signature' : 'none'
}

function nested(random: Random): Uint8Array {
  const depth = random.pick([30, 100, 1_900, 50_000])
  return Buffer.from(
    random.oneIn(2) ? '['.repeat(depth) + ']'.repeat(depth) : '{"a":'.repeat(depth) + '1' + '}'.repeat(depth),
  )
}
