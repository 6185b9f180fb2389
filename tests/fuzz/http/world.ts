/**
 * What makes requests true: people at providers, an organisation with its domain, members, revocation lists, closed sessions and
 * statements of succession. Hostile requests use it up, ban it and take it apart, so it is made anew once in a while.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { closedSession } from '../../../apps/registry/src/reputation/test-support.ts'
import { TestAgent } from '../../../apps/registry/src/test-support.ts'
import { MailServer } from '../../../apps/registry/src/verification/test-support-mail.ts'
import {
  Browser,
  startGithubLike,
  startOidc,
  type GithubLike,
  type TestProvider,
} from '../../../apps/registry/src/verification/test-support-providers.ts'
import {
  CHALLENGE,
  REDIRECT,
  VERIFIER,
} from '../../../apps/registry/src/verification/test-support-verification.ts'
import { ed25519KeyPair, sha256, systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  issueAgent,
  issueCrl,
  newSerial,
  parseCertificate,
  signFeedback,
  signSuccession,
  type Issuer,
} from '@agentmesh/sdk/identity'
import { amidToBytes, formatKey, toBase64, toHex, utf8Bytes } from '@agentmesh/sdk/wire'
import { DnsServer } from '../../support/dns-server.ts'

const DOMAIN = 'fuzz.example'
const HOUR = 3_600_000
const recovery = ed25519KeyPair(sha256(utf8Bytes('recovery')))

// Bodies of every shape; a wrong one shows in what comes of it.
// oxlint-disable-next-line typescript/no-explicit-any
type Body = any

/** Signed by the agent. */
export type Send = (agent: TestAgent, method: string, path: string, body?: object) => Promise<Body>
/** By the operator. */
export type Administer = (method: string, path: string, body?: object) => Promise<Body>

/** The servers that a registry asks. */
export class Outside {
  readonly providersPath: string
  readonly resolvers: readonly string[]
  readonly github: GithubLike
  readonly mails: MailServer
  readonly dns: readonly [DnsServer, DnsServer]
  readonly #oidc: TestProvider
  readonly #folder: string

  private constructor(
    folder: string,
    github: GithubLike,
    oidc: TestProvider,
    mails: MailServer,
    dns: readonly [DnsServer, DnsServer],
  ) {
    this.#folder = folder
    this.providersPath = join(folder, 'providers.json')
    this.github = github
    this.#oidc = oidc
    this.mails = mails
    this.dns = dns
    this.resolvers = dns.map(({ address }) => address)
  }

  static async start(): Promise<Outside> {
    const folder = mkdtempSync(join(tmpdir(), 'agentmesh-fuzz-providers-'))
    const github = await startGithubLike()
    github.typed = true
    const oidc = await startOidc()
    const mails = new MailServer()
    const smtp = { host: '127.0.0.1', port: await mails.listen(), security: 'none' }
    const outside = new Outside(folder, github, oidc, mails, [
      await DnsServer.start(),
      await DnsServer.start(),
    ])
    const client = { client_id: 'agentmesh', device: true }
    const providers = [
      {
        type: 'github',
        ...client,
        client_secret: 'github-secret',
        url: github.url,
        api_url: `${github.url}/api`,
      },
      { type: 'oidc', ...client, client_secret: 'secret-of-the-registry', issuer: oidc.url },
      { type: 'email', from: 'agents@registry.example', smtp },
    ]
    writeFileSync(outside.providersPath, JSON.stringify({ providers }))
    return outside
  }

  async close(): Promise<void> {
    await this.github.close()
    await this.#oidc.close()
    await this.mails.close()
    for (const server of this.dns) await server.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

export class World {
  /** True bodies by operation; the one at place n is true from signer n. */
  readonly samples: Record<string, object[]> = {}
  /** Of verifications under way through the browser, by signer. */
  readonly states: string[] = []
  /** Key id of the organisation. */
  readonly organization: string
  readonly #outside: Outside
  readonly #agents: readonly TestAgent[]
  readonly #old: readonly TestAgent[]
  readonly #banned: TestAgent
  readonly #send: Send
  readonly #administer: Administer
  #round = 0

  constructor(
    outside: Outside,
    agents: readonly TestAgent[],
    publicUrl: string,
    send: Send,
    administer: Administer,
  ) {
    this.#outside = outside
    this.#agents = agents
    this.#old = agents.map((_, index) => new TestAgent(`succeeded ${index}`, publicUrl, Date.now))
    this.#banned = new TestAgent('banned', publicUrl, Date.now)
    this.#send = send
    this.#administer = administer
    this.organization = toHex(amidToBytes(this.#first.amid))
    for (const index of agents.keys()) {
      this.#put('POST /v1/registry/prekeys/fetch', index, { amid: this.#next(index).amid })
      this.#put('POST /v1/registry/verification/start', index, startBody(index % 2 === 0 ? 'github' : 'oidc'))
      this.#put('POST /v1/registry/verification/device', index, { provider: 'github' })
      this.#put('POST /v1/registry/verification/email', index, { provider: 'email', address: mailOf(index) })
      this.#put('POST /v1/registry/organizations', index, { domain: DOMAIN, name: 'Fuzz' })
      this.#put('POST /v1/registry/organizations/verify', index, {})
      this.#put('POST /v1/registry/certificates/agent', index, {})
    }
  }

  get #first(): TestAgent {
    return this.#agents[0]!
  }

  #next(index: number): TestAgent {
    return this.#agents[(index + 1) % this.#agents.length]!
  }

  #put(operation: string, signer: number, body: object): void {
    const bodies = (this.samples[operation] ??= this.#agents.map(() => body))
    bodies[signer] = body
  }

  async restore(): Promise<void> {
    this.#round += 1
    const { lines } = await this.#administer('GET', '/export?kind=bans')
    for (const { subject } of lines as { subject: string }[]) {
      await this.#administer('POST', '/bans/lift', { subject, reason: 'fuzzing' })
    }
    for (const [index, agent] of this.#agents.entries()) {
      const sequence = 2 * this.#round
      const registration = agent.registration({ sequence, online: true })
      this.#put('POST /v1/registry/register', index, registration)
      this.#put('PUT /v1/registry/agents/{amid}', index, agent.registration({ sequence: sequence + 1 }))
      await this.#send(agent, 'POST', '/register', registration)
      await this.#send(agent, 'PUT', '/prekeys', agent.upload(10 * sequence, 3, sequence))
      this.#put('PUT /v1/registry/prekeys', index, agent.upload(10 * sequence + 10, 3, sequence + 1))
      await this.#vouch(agent, index)
    }
    const banned = { amid: this.#banned.amid, scope: 'agent', reason: 'fuzzing' }
    const [subject] = (await this.#administer('POST', '/bans', banned)).banned
    this.#put('POST /v1/registry/admin/bans/lift', 0, { subject, reason: 'fuzzing' })
    await this.#found()
    for (const [index, agent] of this.#agents.entries()) {
      await this.#succeed(agent, index)
      const closing = closedSession(agent, this.#next(index), Date.now())
      const feedback = signFeedback(agent.identity, { closing, rating: 1, tags: ['fast'] }, Date.now())
      this.#put('POST /v1/registry/reputation/feedback', index, feedback)
    }
  }

  /** A person for the agent, and one who has agreed and is about to say so, in each of the ways. */
  async #vouch(agent: TestAgent, index: number): Promise<void> {
    const { github, mails } = this.#outside
    github.user = index + 1
    const agreed = async (provider: string) => {
      const begun = await this.#send(agent, 'POST', '/verification/start', startBody(provider))
      const returned = await new Browser(`user${index}`).visit(begun.authorization_url, REDIRECT)
      const { code, state, iss } = Object.fromEntries(returned.searchParams)
      const body = { verification_id: begun.verification_id, code, state, code_verifier: VERIFIER }
      return iss === undefined ? body : { ...body, iss }
    }
    const finish = '/verification/finish'
    // Whoever vouched through a hostile request stays.
    const { tier } = await this.#send(agent, 'GET', `/lookup?amid=${agent.amid}`)
    if (index > 0 && tier === 2) await this.#send(agent, 'POST', finish, await agreed('github'))
    // A provider of its own kind for some: what is wrong with an ID token is not wrong with an access token.
    const provider = index % 2 === 0 ? 'github' : 'oidc'
    const ready = await agreed(provider)
    this.#put(`POST /v1/registry${finish}`, index, ready)
    this.states[index] = ready.state ?? ''

    const device = await this.#send(agent, 'POST', '/verification/device', { provider: 'github' })
    this.#put('POST /v1/registry/verification/device/finish', index, {
      verification_id: device.verification_id,
    })

    const address = mailOf(index)
    const mailed = () =>
      mails.mails.filter(({ to, text }) => to.includes(address) && text.includes(agent.amid))
    const before = mailed().length
    const mail = await this.#send(agent, 'POST', '/verification/email', { provider: 'email', address })
    await mails.until(() => mailed().length > before)
    const code = /code: (\d{8})\r?\n/.exec(mailed().at(-1)!.text)![1]!
    this.#put('POST /v1/registry/verification/email/finish', index, {
      verification_id: mail.verification_id,
      code,
    })
  }

  /** The first agent's organisation, with a certificate for each of the others and a list. */
  async #found(): Promise<void> {
    const organization = this.#first
    const challenge = await this.#send(organization, 'POST', '/organizations', {
      domain: DOMAIN,
      name: 'Fuzz',
    })
    for (const server of this.#outside.dns) server.set(challenge.record.name, challenge.record.value)
    const { certificate } = await this.#send(organization, 'POST', '/organizations/verify', {})
    const issuer: Issuer = {
      certificate: certificateFromText(certificate),
      signing: organization.identity.signing,
    }
    const now = Date.now()
    const terms = { notBefore: now - HOUR, notAfter: now + 24 * HOUR }
    for (const [index, { identity }] of this.#agents.entries()) {
      if (index === 0) continue
      const publicKey = identity.signing.publicKey
      const member = parseCertificate(
        issueAgent({ ...terms, serial: newSerial(systemRandom), publicKey, displayName: 'Member' }, issuer),
      )
      const chain = [certificateText(member), certificate]
      // The organisation brings what it issued, too.
      for (const signer of [0, index]) this.#put('POST /v1/registry/certificates/submit', signer, { chain })
    }
    const list = { entries: [], number: this.#round, thisUpdate: now - 1000, nextUpdate: now + 24 * HOUR }
    this.#put('PUT /v1/registry/crl/{keyId}', 0, { crl: toBase64(issueCrl(list, issuer)) })
  }

  /** Somebody whom the agent succeeds. */
  async #succeed(agent: TestAgent, index: number): Promise<void> {
    const old = this.#old[index]!
    await this.#send(
      old,
      'POST',
      '/register',
      old.registration({
        sequence: this.#round,
        recovery_public_key: formatKey('ed25519', recovery.publicKey),
      }),
    )
    const statement = signSuccession(recovery, old.amid, agent.amid, Date.now())
    this.#put('POST /v1/registry/successions', index, statement)
  }
}

function startBody(provider: string): object {
  return { provider, redirect_uri: REDIRECT, code_challenge: CHALLENGE }
}

function mailOf(index: number): string {
  return `user${index}@example.org`
}
