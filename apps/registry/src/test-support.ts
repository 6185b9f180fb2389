/** Agents for tests: each with an identity, its records, and a way to send signed requests. */
import { randomBytes } from 'node:crypto'
import { ed25519KeyPair, sha256, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  signRegistration,
  signRequest,
  type Identity,
  type RegistrationFields,
} from '@agentmesh/sdk/identity'
import {
  formatTimestamp,
  utf8Bytes,
  type PrekeyUpload,
  type Registration,
  type SignedKey,
} from '@agentmesh/sdk/wire'

export const NOW = Date.UTC(2026, 1, 1, 12)
export const DAY = 86_400_000

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // Tests read answers of every shape; a wrong shape fails the expectation.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any
}

export async function call(url: string, init: RequestInit = {}): Promise<Reply> {
  // One connection a request, so that none is left over from a registry that was closed.
  const headers = { ...(init.headers as Record<string, string> | undefined), connection: 'close' }
  const response = await fetch(url, { ...init, headers })
  const text = await response.text()
  const json = response.headers.get('content-type')?.startsWith('application/json') === true && text !== ''
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: json ? JSON.parse(text) : undefined,
  }
}

export interface SignedCall {
  readonly method: string
  readonly path: string
  readonly body?: object | string
}

export class TestAgent {
  readonly identity: Identity
  readonly exchange: SignedKey
  readonly url: string
  readonly now: () => number

  constructor(name: string, url: string, now: () => number) {
    this.identity = identityFromKeyPair(ed25519KeyPair(sha256(utf8Bytes(name))))
    this.url = url
    this.now = now
    this.exchange = this.exchangeKey(1)
  }

  get amid(): Identity['amid'] {
    return this.identity.amid
  }

  exchangeKey(sequence: number, now = this.now()): SignedKey {
    return makeExchangeKey(this.identity, { startId: sequence, sequence, random: systemRandom, now }).record
  }

  registration(fields: Partial<RegistrationFields> = {}): Registration {
    return signRegistration(this.identity, {
      exchange_key: this.exchange,
      capabilities: [{ category: 'travel', subcategory: 'flights', actions: ['search', 'book'] }],
      relay_endpoint: 'wss://relay.example/v1/connect',
      sequence: 1,
      created_at: formatTimestamp(this.now()),
      ...fields,
    })
  }

  upload(startId: number, count: number, sequence = 1): PrekeyUpload {
    const options = { startId: sequence, sequence, random: systemRandom, now: this.now() }
    const oneTime = { ...options, startId, count }
    const records = (keys: { readonly record: SignedKey }[]) => keys.map((key) => key.record)
    return {
      signed_prekey: makeSignedPrekey(this.identity, options).record,
      last_resort_kem_prekey: makeLastResortKemPrekey(this.identity, options).record,
      one_time_prekeys: records(makeOneTimePrekeys(this.identity, oneTime)),
      one_time_kem_prekeys: records(makeOneTimeKemPrekeys(this.identity, oneTime)),
    }
  }

  /** A signed request that can be sent, sent again, or changed first. */
  sign({ method, path, body }: SignedCall, url = this.url): { url: string; init: RequestInit } {
    const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    const headers = signRequest(
      { method, url: url + path, ...(text === undefined ? {} : { body: utf8Bytes(text) }) },
      this.identity,
      { now: this.now(), nonce: new Uint8Array(randomBytes(16)) },
    )
    return {
      url: this.url + path,
      init: {
        method,
        headers: text === undefined ? headers : { ...headers, 'content-type': 'application/json' },
        ...(text === undefined ? {} : { body: text }),
      },
    }
  }

  async send(request: SignedCall): Promise<Reply> {
    const { url, init } = this.sign(request)
    return call(url, init)
  }

  register(fields: Partial<RegistrationFields> = {}): Promise<Reply> {
    return this.send({ method: 'POST', path: '/v1/registry/register', body: this.registration(fields) })
  }

  fetchBundle(of: TestAgent): Promise<Reply> {
    return this.send({ method: 'POST', path: '/v1/registry/prekeys/fetch', body: { amid: of.amid } })
  }

  putPrekeys(upload: object): Promise<Reply> {
    return this.send({ method: 'PUT', path: '/v1/registry/prekeys', body: upload })
  }
}
