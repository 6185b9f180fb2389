/**
 * Tier 1: a person vouches for an agent (DESIGN §8).
 *
 *     agent, signed                registry                                provider
 *     start: redirect, challenge   keeps state, nonce; gives the address
 *                                                         <- browser ->    consent, code to the loopback redirect
 *     finish: code, verifier       state? PKCE? once, its own agent?  -->  code, client secret, verifier
 *                                  ID token: signature, iss, aud, exp, nonce
 *                                  human = keyed hash; certificate, log entry
 *
 * Only the agent that began can finish, through any registry on the database. Whatever is wrong with the number of an
 * attempt (unknown, somebody else's, used, late) has one answer.
 */
import { equalBytes, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  AgentMeshError,
  formatTimestamp,
  fromBase64,
  toBase64,
  toBase64Url,
  type Amid,
  type VerificationDeviceFinish,
  type VerificationDeviceStarted,
  type VerificationEmailFinish,
  type VerificationEmailStarted,
  type VerificationFinish,
  type VerificationPending,
  type VerificationProviders,
  type VerificationResult,
  type VerificationStart,
  type VerificationStarted,
  type VerificationWay,
} from '@agentmesh/sdk/wire'
import { authorityOf } from '../authority/authority.ts'
import type { Context } from '../context.ts'
import type { Visitor } from '../route.ts'
import type { AnyProvider } from './configuration.ts'
import { EmailProvider, newCode, parseAddress } from './email.ts'
import { challengeOf, checkDisplayName, codeHash, humanOf } from './human.ts'
import { MAX_INTERVAL_SECONDS, refused, type Provider } from './provider.ts'

export const RETURN_PATH = '/v1/registry/verification/return'
/** RFC 8628 §3.5: what `slow_down` adds. */
const SLOW_DOWN_SECONDS = 5

export interface VerifierSettings {
  readonly providers: ReadonlyMap<string, AnyProvider>
  /** For `human.ts`; 32 bytes, the same in every registry on the database. */
  readonly secret: Uint8Array
}

export class Verifier {
  readonly #context: Context
  readonly #settings: VerifierSettings
  readonly #onMailError: (error: unknown) => void

  /** @param onMailError told of mails that could not be sent */
  constructor(context: Context, settings: VerifierSettings, onMailError: (error: unknown) => void) {
    this.#context = context
    this.#settings = settings
    this.#onMailError = onMailError
  }

  providers(): VerificationProviders {
    const providers = [...this.#settings.providers.values()]
    return { providers: providers.map(({ name, type, ways }) => ({ name, type, ways: [...ways] })) }
  }

  async start({ amid }: Visitor, body: VerificationStart): Promise<VerificationStarted> {
    const provider = this.#online(body.provider, 'browser')
    checkLoopback(body.redirect_uri)
    const attempt = this.#attempt(amid, provider.name)
    const state = secretText()
    const nonce = secretText()
    const url = await provider.authorizationUrl({
      redirectUri: this.#returnAddress(provider, body.redirect_uri),
      state,
      nonce,
      codeChallenge: body.code_challenge,
    })
    const details = { nonce, redirectUri: body.redirect_uri, codeChallenge: body.code_challenge }
    await this.#store.addBrowser({ ...attempt, state, details }, this.#bounds())
    return {
      verification_id: attempt.id,
      authorization_url: url,
      state,
      expires_at: formatTimestamp(attempt.expiresAt),
    }
  }

  /** Where the browser that came back with this state goes on to. @throws VERIFICATION_UNKNOWN */
  async returned(state: string): Promise<URL> {
    const redirect = await this.#store.redirectOf(state, this.#context.now())
    if (redirect === undefined) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    return new URL(redirect)
  }

  async finish(visitor: Visitor, body: VerificationFinish): Promise<VerificationResult> {
    const displayName = checkDisplayName(body.display_name)
    const taken = await this.#store.takeBrowser(body.verification_id, visitor.amid, this.#context.now())
    if (taken === undefined) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    const { nonce, redirectUri, codeChallenge } = taken.details
    const provider = this.#online(taken.provider, 'browser')
    if (body.state !== taken.state) throw refused('The state is not the one of this verification')
    // Held here too: not every provider knows PKCE.
    if (toBase64Url(challengeOf(body.code_verifier)) !== codeChallenge) {
      throw refused('The PKCE verifier is not the one of this verification')
    }
    const account = await provider.redeem({
      redirectUri: this.#returnAddress(provider, redirectUri),
      state: taken.state,
      nonce,
      code: body.code,
      codeVerifier: body.code_verifier,
      iss: body.iss,
    })
    return this.#verified(visitor, humanOf(this.#settings.secret, account), displayName)
  }

  async startDevice({ amid }: Visitor, name: string): Promise<VerificationDeviceStarted> {
    const provider = this.#online(name, 'device')
    const started = await provider.startDevice()
    const attempt = this.#attempt(amid, provider.name, started.expiresInSeconds)
    const { deviceCode, intervalSeconds, verificationUriComplete } = started
    await this.#store.addDevice({ ...attempt, intervalSeconds, details: { deviceCode } }, this.#bounds())
    return {
      verification_id: attempt.id,
      user_code: started.userCode,
      verification_uri: started.verificationUri,
      ...(verificationUriComplete === undefined
        ? {}
        : { verification_uri_complete: verificationUriComplete }),
      interval: intervalSeconds,
      expires_at: formatTimestamp(attempt.expiresAt),
    }
  }

  async finishDevice(
    visitor: Visitor,
    body: VerificationDeviceFinish,
  ): Promise<VerificationResult | VerificationPending> {
    const displayName = checkDisplayName(body.display_name)
    const now = this.#context.now()
    const id = body.verification_id
    const claim = await this.#store.claimDevice(id, visitor.amid, now)
    if (claim === undefined) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    const { intervalSeconds: interval } = claim
    if (claim.details === undefined) return { status: 'pending', interval }
    const provider = this.#online(claim.provider, 'device')
    const answer = await this.#orEnd(id, visitor.amid, () => provider.askDevice(claim.details.deviceCode))
    if (answer === 'pending') return { status: 'pending', interval }
    if (answer === 'slow_down') {
      const slower = Math.min(interval + SLOW_DOWN_SECONDS, MAX_INTERVAL_SECONDS)
      await this.#store.slowDevice(id, slower, now)
      return { status: 'pending', interval: slower }
    }
    if (!(await this.#store.end(id, visitor.amid, now))) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    return this.#verified(visitor, humanOf(this.#settings.secret, answer), displayName)
  }

  /** A provider that refused for good ends the attempt; one that did not answer may be asked again. */
  async #orEnd<T>(id: string, amid: Amid, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof AgentMeshError && error.code === 'VERIFICATION_REFUSED') {
        await this.#store.end(id, amid, this.#context.now())
      }
      throw error
    }
  }

  /** @returns what to answer, and `mail`, which is to be called when the answer is out: it depends on the address */
  async startEmail(
    { amid }: Visitor,
    name: string,
    text: string,
  ): Promise<{ started: VerificationEmailStarted; mail: () => void }> {
    const provider = this.#provider(name, 'email')
    if (!(provider instanceof EmailProvider)) throw new AgentMeshError('PROVIDER_UNKNOWN')
    const { mailbox, account } = parseAddress(text)
    await provider.check()
    const attempt = this.#attempt(amid, provider.name)
    await this.#store.addEmail(attempt, this.#bounds())
    const address = toBase64(humanOf(this.#settings.secret, account))
    const work = async (): Promise<void> => {
      const { now, limits } = this.#context
      const code = newCode()
      const noted = await this.#store.sendCode({
        id: attempt.id,
        address,
        code: toBase64(codeHash(this.#settings.secret, attempt.id, code)),
        perAddress: limits.mailsPerAddress,
        now: now(),
      })
      if (noted) await provider.send(mailbox, code, amid, authorityOf(this.#context).trustDocument.url)
    }
    return {
      started: { verification_id: attempt.id, expires_at: formatTimestamp(attempt.expiresAt) },
      mail: () => provider.begin(work, this.#onMailError),
    }
  }

  async finishEmail(visitor: Visitor, body: VerificationEmailFinish): Promise<VerificationResult> {
    const displayName = checkDisplayName(body.display_name)
    const now = this.#context.now()
    const id = body.verification_id
    const { maxCodeAttempts } = this.#context.limits
    const tried = await this.#store.tryCode(id, visitor.amid, maxCodeAttempts, now)
    if (tried === undefined) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    const given = codeHash(this.#settings.secret, id, body.code)
    // Without a mail there is no code to hold it against, and the work is the same.
    const right = equalBytes(given, tried.code === undefined ? new Uint8Array(32) : fromBase64(tried.code))
    if (!right || tried.address === undefined) throw refused('The code is not the one that was sent')
    if (!(await this.#store.end(id, visitor.amid, now))) throw new AgentMeshError('VERIFICATION_UNKNOWN')
    return this.#verified(visitor, fromBase64(tried.address), displayName)
  }

  /** Waits for mails that were begun. */
  async close(): Promise<void> {
    for (const provider of this.#settings.providers.values()) {
      if (provider instanceof EmailProvider) await provider.close()
    }
  }

  async #verified(
    { amid, publicKey }: Visitor,
    human: Uint8Array,
    displayName: string | undefined,
  ): Promise<VerificationResult> {
    const subject = { amid, publicKey, tier: 1, human } as const
    const { chain, proof } = await authorityOf(this.#context).verifyAgent(
      displayName === undefined ? subject : { ...subject, displayName },
      this.#context.now(),
    )
    return { tier: 1, display_name: displayName ?? null, certificate_chain: chain, certificate_proof: proof }
  }

  get #store() {
    return this.#context.store.verification
  }

  #bounds() {
    return { perAgent: this.#context.limits.maxVerificationsPerAgent, now: this.#context.now() }
  }

  #attempt(amid: Amid, provider: string, maxSeconds = Number.POSITIVE_INFINITY) {
    const seconds = Math.min(maxSeconds, this.#context.limits.verificationSeconds)
    return {
      id: toBase64Url(systemRandom(24)),
      amid,
      provider,
      expiresAt: this.#context.now() + seconds * 1000,
    }
  }

  /** @throws TIER_UNAVAILABLE, PROVIDER_UNKNOWN */
  #provider(name: string, way: VerificationWay): AnyProvider {
    authorityOf(this.#context)
    const provider = this.#settings.providers.get(name)
    if (provider === undefined || !(provider.ways as readonly string[]).includes(way)) {
      throw new AgentMeshError(
        'PROVIDER_UNKNOWN',
        provider === undefined ? undefined : `This provider has no way by ${way}`,
      )
    }
    return provider
  }

  #online(name: string, way: 'browser' | 'device'): Provider {
    const provider = this.#provider(name, way)
    if (provider instanceof EmailProvider) throw new AgentMeshError('PROVIDER_UNKNOWN')
    return provider
  }

  #returnAddress(provider: Provider, loopback: string): string {
    return provider.returnsToRegistry
      ? new URL(RETURN_PATH, authorityOf(this.#context).trustDocument.url).href
      : loopback
  }
}

/** 256 bits. */
function secretText(): string {
  return toBase64Url(systemRandom(32))
}

/** The schema has the shape; this is that a browser reads it the same way. @throws MALFORMED */
function checkLoopback(redirect: string): void {
  const url = URL.canParse(redirect) ? new URL(redirect) : undefined
  if (url?.protocol !== 'http:' || !/^(127\.0\.0\.1|\[::1\])$/.test(url.hostname) || url.port === '') {
    throw new AgentMeshError('MALFORMED', 'redirect_uri is not a port of 127.0.0.1 or [::1]')
  }
}
