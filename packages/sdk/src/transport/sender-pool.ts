/**
 * Connections to other agents' home relays, where this agent is not reached and only sends (spec/relay.md 2). Each is opened
 * when something is to be sent there and closed when nothing was for a minute.
 *
 *     (none) --wanted--> dialling --CONNECTED--> ready --idle--> (none)
 *                           ^  |                   |
 *               still wanted|  |refused, away      |ended, answers nothing
 *                           |  v                   |
 *                          resting <---------------+
 *
 * A relay here is a stranger's choice. It can be slow, silent or away; that holds up what goes to it, and nothing else.
 */
import type { RandomBytes } from '../crypto/signing.ts'
import { AgentMeshError, binaryCodec, isAgentMeshError } from '../wire/index.ts'
import { backoffMs, type Delay } from './backoff.ts'
import { RelayLink, type LinkEvents, type LinkOptions } from './relay-link.ts'
import { NO_STATE, type OutgoingMessage, type SentResult } from './transport.ts'

/** Connections at a time. */
export const MAX_SENDERS = 32
/** Without anything to send, or without any answer to what was sent. */
export const SENDER_IDLE_MS = 60_000
/** However long a relay asks us to stay away. */
const MAX_REST_MS = 300_000
/** What is wrong with an address does not change within seconds. */
const FORBIDDEN_REST_MS = 600_000

export type SenderLink = Pick<RelayLink, 'send' | 'close'>

/** A connection that only sends, to a relay that a stranger's record names when `guard` is given. @throws RELAY_FORBIDDEN */
export function openSender(
  options: Omit<LinkOptions, 'presence' | 'codec' | 'state'>,
  events: LinkEvents,
): SenderLink {
  return new RelayLink({ ...options, presence: 'offline', codec: binaryCodec, state: NO_STATE }, events)
}

export interface SenderPoolOptions {
  /** Dials a relay. @throws AgentMeshError when the URL is not to be dialled */
  open(url: string, events: LinkEvents): SenderLink
  /** What waited for this relay, or for room among the connections, can be tried again. */
  onReady(): void
  /** The relay could not be reached, or ended a connection. */
  onFailed(url: string, error: AgentMeshError): void
  readonly random: RandomBytes
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly delay: Delay
}

/** A connection that can send now. */
export interface Sender {
  readonly url: string
  /** @throws RELAY_DISCONNECTED */
  send(message: OutgoingMessage): Promise<SentResult>
}

interface Entry extends Sender {
  /** `rested`: about to be dialled again, or forgotten. */
  state: 'dialling' | 'ready' | 'resting' | 'rested'
  link: SenderLink | undefined
  failures: number
  unanswered: number
  /** When it was last asked or answered, milliseconds since the epoch. */
  usedAt: number
  cancelTimer: () => void
}

export class SenderPool {
  readonly #options: SenderPoolOptions
  readonly #entries = new Map<string, Entry>()
  #crowded = false
  #closed = false

  constructor(options: SenderPoolOptions) {
    this.#options = options
  }

  /** Connections that are open or being opened. */
  get open(): number {
    return [...this.#entries.values()].filter(({ link }) => link !== undefined).length
  }

  /**
   * The connection to a relay, when it can send. Otherwise it is being opened, or rests, or has to wait for room: `onReady`
   * says when to ask again.
   *
   * @param url in its normal form
   */
  to(url: string): Sender | undefined {
    const entry = this.#entries.get(url)
    if (entry?.state === 'ready') return entry
    if (!this.#closed && (entry === undefined || entry.state === 'rested')) {
      this.#dial(entry ?? this.#newEntry(url))
    }
    return undefined
  }

  #newEntry(url: string): Entry {
    const entry: Entry = {
      url,
      state: 'rested',
      link: undefined,
      failures: 0,
      unanswered: 0,
      usedAt: 0,
      cancelTimer: () => {},
      send: async (message) => this.#send(entry, message),
    }
    return entry
  }

  async #send(entry: Entry, message: OutgoingMessage): Promise<SentResult> {
    const { link } = entry
    if (entry.state !== 'ready' || link === undefined) {
      throw new AgentMeshError('RELAY_DISCONNECTED', 'Not connected', { operation: 'send' })
    }
    if (entry.unanswered === 0) entry.usedAt = this.#options.now()
    entry.unanswered += 1
    try {
      const result = await link.send(message)
      entry.failures = 0
      return result
    } finally {
      entry.unanswered -= 1
      entry.usedAt = this.#options.now()
      if (this.#crowded && entry.unanswered === 0) this.#roomMade()
    }
  }

  #dial(entry: Entry): void {
    if (this.open >= MAX_SENDERS && !this.#makeRoom()) {
      this.#crowded = true
      return
    }
    this.#entries.set(entry.url, entry)
    entry.state = 'dialling'
    try {
      const link: SenderLink = this.#options.open(entry.url, {
        onConnected: () => {
          if (entry.link === link) this.#connected(entry)
        },
        // A relay that hands us something here breaks the protocol, and we have no way to take it.
        onReceive: () => void link.close(),
        onEnd: (error) => {
          if (entry.link === link) this.#rest(entry, error)
        },
      })
      entry.link = link
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.#rest(entry, error)
    }
  }

  /** Ends the connection that has been idle the longest. */
  #makeRoom(): boolean {
    const idle = [...this.#entries.values()].filter(
      ({ state, unanswered }) => state === 'ready' && unanswered === 0,
    )
    const [oldest] = idle.toSorted((left, right) => left.usedAt - right.usedAt)
    if (oldest !== undefined) this.#forget(oldest)
    return oldest !== undefined
  }

  #roomMade(): void {
    if (!this.#crowded) return
    this.#crowded = false
    this.#options.onReady()
  }

  #connected(entry: Entry): void {
    entry.state = 'ready'
    entry.usedAt = this.#options.now()
    this.#watch(entry, SENDER_IDLE_MS)
    this.#options.onReady()
  }

  #watch(entry: Entry, wait: number): void {
    entry.cancelTimer = this.#options.delay(wait, () => {
      const left = entry.usedAt + SENDER_IDLE_MS - this.#options.now()
      if (left > 0 && left <= SENDER_IDLE_MS) return this.#watch(entry, left)
      if (entry.unanswered === 0) {
        this.#forget(entry)
        this.#roomMade()
      } else {
        this.#rest(entry, new AgentMeshError('RELAY_DISCONNECTED', 'The relay answers no SEND'))
      }
    })
  }

  #rest(entry: Entry, error: AgentMeshError): void {
    const { link } = entry
    const { random, delay } = this.#options
    entry.state = 'resting'
    entry.link = undefined
    entry.cancelTimer()
    void link?.close()
    if (this.#closed) return
    const asked = Math.min(MAX_REST_MS, (error.retryAfterSeconds ?? 0) * 1000)
    const wait =
      error.code === 'RELAY_FORBIDDEN'
        ? FORBIDDEN_REST_MS
        : Math.max(asked, backoffMs(entry.failures, random))
    entry.failures += 1
    entry.cancelTimer = delay(wait, () => this.#rested(entry))
    this.#options.onFailed(entry.url, error)
    this.#roomMade()
  }

  /** Asked for now, it is dialled, and knows how often that failed before. */
  #rested(entry: Entry): void {
    entry.state = 'rested'
    this.#options.onReady()
    if (entry.state === 'rested') this.#entries.delete(entry.url)
  }

  #forget(entry: Entry): void {
    const { link } = entry
    this.#entries.delete(entry.url)
    entry.state = 'resting'
    entry.link = undefined
    entry.cancelTimer()
    void link?.close()
  }

  async close(): Promise<void> {
    this.#closed = true
    const entries = [...this.#entries.values()]
    const links = entries.flatMap(({ link }) => link ?? [])
    for (const entry of entries) this.#forget(entry)
    await Promise.all(links.map(async (link) => link.close()))
  }
}
