/** Vouching for an agent over HTTP: requests signed by the agent, answers held to their schemas. */
import { certificateFromText, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  Embedded,
  validate,
  VerificationDeviceStarted,
  VerificationEmailStarted,
  VerificationPending,
  VerificationProviders,
  VerificationResult,
  VerificationStarted,
  type VerificationDeviceFinish,
  type VerificationEmailFinish,
  type VerificationFinish,
  type VerificationStart,
  Type,
} from '../wire/index.ts'
import type { Static, TSchema } from 'typebox'
import { RegistryHttp, trusted, type RegistryHttpOptions } from './registry-http.ts'
import type { VerificationClient } from './verification-client.ts'

const VerificationDeviceAnswer = Type.Union([Embedded(VerificationResult), Embedded(VerificationPending)])

export class HttpVerificationClient implements VerificationClient {
  readonly #http: RegistryHttp
  readonly #identity: Identity

  /** @param url http or https; only its origin counts. @throws MALFORMED for anything else */
  constructor(url: string, identity: Identity, options: RegistryHttpOptions) {
    this.#http = new RegistryHttp(url, identity, options)
    this.#identity = identity
  }

  async verificationProviders(): Promise<VerificationProviders> {
    const answer = await this.#http.call({ method: 'GET', path: '/v1/registry/verification/providers' })
    return trusted('list identity providers', () => validate(VerificationProviders, answer))
  }

  async startVerification(start: VerificationStart): Promise<VerificationStarted> {
    return this.#verify('start', start, VerificationStarted)
  }

  async finishVerification(finish: VerificationFinish): Promise<VerificationResult> {
    return this.#own(await this.#verify('finish', finish, VerificationResult))
  }

  async startDeviceVerification(provider: string): Promise<VerificationDeviceStarted> {
    return this.#verify('device', { provider }, VerificationDeviceStarted)
  }

  async finishDeviceVerification(
    finish: VerificationDeviceFinish,
  ): Promise<VerificationResult | VerificationPending> {
    const answer = await this.#verify('device/finish', finish, VerificationDeviceAnswer)
    return 'status' in answer ? answer : this.#own(answer)
  }

  async startEmailVerification(provider: string, address: string): Promise<VerificationEmailStarted> {
    return this.#verify('email', { provider, address }, VerificationEmailStarted)
  }

  async finishEmailVerification(finish: VerificationEmailFinish): Promise<VerificationResult> {
    return this.#own(await this.#verify('email/finish', finish, VerificationResult))
  }

  /** A certificate for somebody else is none for us. */
  #own(result: VerificationResult): VerificationResult {
    return trusted('verify a person', () => {
      const { amid } = certificateFromText(result.certificate_chain[0] ?? '')
      if (amid !== this.#identity.amid) throw new AgentMeshError('AMID_MISMATCH')
      return result
    })
  }

  async #verify<T extends TSchema>(step: string, body: object, schema: T): Promise<Static<T>> {
    const path = `/v1/registry/verification/${step}`
    const answer = await this.#http.call({ method: 'POST', path, body, signed: true })
    return trusted('verify a person', () => validate(schema, answer))
  }

  close(): void {
    this.#http.close()
  }
}
