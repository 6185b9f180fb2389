/**
 * The person as somebody who reads the mail of an address. The address is in memory while the mail is handed over, and
 * kept as a keyed hash only.
 */
import { domainToASCII } from 'node:url'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { AgentMeshError, type Amid } from '@agentmesh/sdk/wire'
import type { createTransport, Transporter } from 'nodemailer'
import { unavailable, type Account } from './provider.ts'

const CODE_DIGITS = 8
const CODES = 10 ** CODE_DIGITS
const TIMEOUT_MILLISECONDS = 10_000
/** Mails being handed over at once; more are refused before anything is known of their address. */
const MAX_UNDER_WAY = 50
/** RFC 5322 dot-atom and nothing else: no quotes, comments, lists, spaces or line breaks, so nothing to inject. */
const LOCAL = /^[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/i
const DOMAIN = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/

export interface SmtpOptions {
  readonly host: string
  readonly port: number
  /** `tls` from the first byte, `starttls` (required, never skipped), or `none` for a relay on a trusted network. */
  readonly security: 'tls' | 'starttls' | 'none'
  readonly user?: string
  readonly password?: string
}

export interface EmailOptions {
  readonly name: string
  /** Address the mails come from. */
  readonly from: string
  readonly smtp: SmtpOptions
}

export interface Address {
  /** Where the mail goes. */
  readonly mailbox: string
  /** Who that is: the same for every spelling that reaches the same mailbox. */
  readonly account: Account
}

/** @throws MALFORMED */
export function parseAddress(text: string): Address {
  const at = text.lastIndexOf('@')
  const local = text.slice(0, Math.max(at, 0))
  const domain = domainToASCII(text.slice(at + 1)).toLowerCase()
  if (local.length > 64 || domain.length > 253 || !LOCAL.test(local) || !DOMAIN.test(domain)) {
    throw new AgentMeshError('MALFORMED', 'Not a mail address of the form name@domain')
  }
  const untagged = local.toLowerCase().split('+', 1)[0] ?? ''
  // Google delivers the dots of a name to one mailbox, under both its domains.
  const google = domain === 'gmail.com' || domain === 'googlemail.com'
  const subject = google ? `${untagged.replaceAll('.', '')}@gmail.com` : `${untagged || local}@${domain}`
  return { mailbox: `${local}@${domain}`, account: { issuer: 'mailto:', subject } }
}

export function newCode(): string {
  const bytes = systemRandom(4)
  const value = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
  // Every code as likely as any other: what is left over above the last whole range is drawn again.
  if (value >= 2 ** 32 - (2 ** 32 % CODES)) return newCode()
  return String(value % CODES).padStart(CODE_DIGITS, '0')
}

export class EmailProvider {
  readonly name: string
  readonly type = 'email'
  readonly ways = ['email'] as const
  readonly #options: EmailOptions
  readonly #transport: Transporter
  readonly #underWay = new Set<Promise<void>>()

  /** @param connect nodemailer's own, which a registry without mail does not load */
  constructor(options: EmailOptions, connect: typeof createTransport) {
    this.name = options.name
    this.#options = options
    const { host, port, security, user, password } = options.smtp
    this.#transport = connect({
      host,
      port,
      secure: security === 'tls',
      requireTLS: security === 'starttls',
      ignoreTLS: security === 'none',
      connectionTimeout: TIMEOUT_MILLISECONDS,
      greetingTimeout: TIMEOUT_MILLISECONDS,
      socketTimeout: TIMEOUT_MILLISECONDS,
      disableFileAccess: true,
      disableUrlAccess: true,
      ...(user === undefined ? {} : { auth: { user, pass: password ?? '' } }),
    })
  }

  /**
   * Whether the mail server takes our mail at all. Asked before an address is looked at, so that the answer depends on
   * none.
   *
   * @throws PROVIDER_UNAVAILABLE
   */
  async check(): Promise<void> {
    if (this.#underWay.size >= MAX_UNDER_WAY) throw unavailable(this.name, new Error('Too many mails wait'))
    try {
      await this.#transport.verify()
    } catch (cause) {
      throw unavailable(this.name, cause)
    }
  }

  /** Does `work` beside the requests; `close` waits for it. */
  begin(work: () => Promise<void>, onError: (error: unknown) => void): void {
    const task = work()
      .catch(onError)
      .finally(() => this.#underWay.delete(task))
    this.#underWay.add(task)
  }

  async send(mailbox: string, code: string, amid: Amid, registry: string): Promise<void> {
    await this.#transport.sendMail({
      envelope: { from: this.#options.from, to: [mailbox] },
      from: this.#options.from,
      to: { name: '', address: mailbox },
      subject: 'Your AgentMesh code',
      text: [
        `Your code: ${code}`,
        '',
        `It lets the agent ${amid} call itself verified by you at the registry ${registry}.`,
        'It is good for ten minutes. Give it to nobody. If you did not ask for it, do nothing.',
        '',
      ].join('\r\n'),
      headers: { 'auto-submitted': 'auto-generated' },
    })
  }

  /** Waits for what was begun. */
  async close(): Promise<void> {
    await Promise.all(this.#underWay)
    this.#transport.close()
  }
}
