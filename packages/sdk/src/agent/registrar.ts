/**
 * Keeps the agent's record and prekeys at the registry: on start, when something changed, and when the registry was away.
 *
 *   waiting --(record and prekeys taken)--> registered --(rotation, replenishing due)--> waiting
 *      |  ^ error: again after a growing delay
 *      +--+
 */
import { setTimeout as setTimeoutPromise } from 'node:timers/promises'
import { nextSequence, signRegistration } from '../identity/index.ts'
import {
  AgentMeshError,
  canonicalText,
  formatKey,
  formatTimestamp,
  isAgentMeshError,
  type PresenceState,
  type Registration,
} from '../wire/index.ts'
import { commit, isDue, type Core } from './core.ts'
import type { Keyring } from './keyring.ts'

const FIRST_RETRY_MS = 1_000
const MAX_RETRY_MS = 60_000
/** Wait before the second time all keys are made anew; four times as long before each further one, so a few times a day at most. */
const START_OVER_AFTER_MS = 10 * 60_000
const MAX_START_OVER_AFTER_MS = 12 * 3_600_000
/** However slow a registry is, nobody waits longer for it to end. */
const LEAVE_MS = 3_000
const REPLENISH_EVERY_MS = 10 * 60_000
/** A registry forgets agents it does not hear of; this is well within its patience. */
const SIGN_OF_LIFE_MS = 4 * 60_000

type State = 'registered' | 'waiting' | 'stopped'

interface Published {
  /** Canonical fields without sequence, date and signature: what a change is measured against. */
  content: string
  record: Registration
}

export class Registrar {
  readonly #core: Core
  readonly #keyring: Keyring
  #state: State = 'stopped'
  #lastError: string | undefined
  #delay = FIRST_RETRY_MS
  #timer: NodeJS.Timeout | undefined
  #replenishAt = 0
  #signOfLifeAt = 0
  #startOverAt = 0
  #startOverAfter = START_OVER_AFTER_MS
  #startingOver = false
  #isOutdated = false
  #isCompared = false
  #presence: PresenceState = 'online'
  /** Our home, which the record names; nothing is published before it was chosen. */
  #relay: string | undefined
  #publishedRelay: string | undefined
  #working: Promise<void> | undefined

  constructor(core: Core, keyring: Keyring) {
    this.#core = core
    this.#keyring = keyring
  }

  get state(): State {
    return this.#state
  }

  get lastError(): string | undefined {
    return this.#lastError
  }

  /** Publishes as soon as there is a home, and again whenever it is due, until `stop`. */
  start(): void {
    if (this.#state !== 'stopped') return
    this.#state = 'waiting'
    if (this.#relay !== undefined) this.#schedule(0)
  }

  /** Where peers are to find us from now on. */
  setRelay(url: string): void {
    if (this.#relay === url) return
    this.#relay = url
    // What is under way sees it at its end.
    if (this.#working === undefined) this.#schedule(0)
  }

  async stop(): Promise<void> {
    const wasRegistered = this.#state === 'registered'
    this.#state = 'stopped'
    clearTimeout(this.#timer)
    await this.#working
    if (!wasRegistered) return
    try {
      await Promise.race([this.#keyring.leave(), setTimeoutPromise(LEAVE_MS, undefined, { ref: false })])
    } catch (error) {
      // Its relay knows as well how far the state is.
      if (!isAgentMeshError(error)) throw error
    }
  }

  /**
   * The registry knows newer keys than we do: new ones of every kind, a new record. Its word alone brings this about, so not
   * often: KNOCKs that wait in a mailbox are lost with the keys they were made for.
   */
  #startOver(): void {
    const now = this.#core.now()
    if (!isDue(this.#startOverAt, MAX_START_OVER_AFTER_MS, now)) {
      this.#schedule(this.#delay)
      return
    }
    this.#startOverAt = now + this.#startOverAfter
    this.#startOverAfter = Math.min(this.#startOverAfter * 4, MAX_START_OVER_AFTER_MS)
    this.#startingOver = true
    this.#schedule(0)
  }

  /** Keys were made anew: record and prekeys go out at once. */
  publishAgain(): void {
    if (this.#state === 'stopped') return
    this.#become('waiting', undefined)
    // What is under way sees it at its end.
    if (this.#working === undefined) this.#schedule(0)
    else this.#isOutdated = true
  }

  /** Before anything of this state is published: whether the registry was brought a later one. @throws STATE_BEHIND */
  async #compare(): Promise<void> {
    if (this.#isCompared) return
    try {
      await this.#keyring.compare()
    } catch (error) {
      // Its first time there.
      if (!isAgentMeshError(error, 'NOT_REGISTERED')) throw error
    }
    this.#isCompared = true
  }

  #become(state: State, error: string | undefined): void {
    if (this.#state === state && this.#lastError === error) return
    this.#state = state
    this.#lastError = error
    this.#core.events.emit('connection')
  }

  /** Tells the registry how reachable we are; best effort, the relay's word is what peers are routed by. */
  async setPresence(state: PresenceState): Promise<void> {
    this.#presence = state
    if (this.#state !== 'registered') return
    try {
      await this.#core.registries.home.setPresence(state)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
    }
  }

  #schedule(delay: number): void {
    if (this.#state === 'stopped') return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#working = this.#work().finally(() => {
        this.#working = undefined
      })
    }, delay)
    this.#timer.unref()
  }

  async #work(): Promise<void> {
    try {
      this.#isOutdated = false
      await this.#compare()
      const rotated = await this.#keyring.rotate(this.#startingOver)
      this.#startingOver = false
      if (this.#state !== 'registered' || rotated || this.#publishedRelay !== this.#relay) {
        await this.#register()
        await this.#keyring.publish()
        await this.#core.registries.home.setPresence(this.#presence)
        this.#replenishAt = this.#core.now() + REPLENISH_EVERY_MS
        this.#signOfLifeAt = this.#core.now() + SIGN_OF_LIFE_MS
        if (this.#state === 'waiting' && !this.#isOutdated) this.#become('registered', undefined)
      } else if (isDue(this.#replenishAt, REPLENISH_EVERY_MS, this.#core.now())) {
        await this.#keyring.replenish()
        this.#replenishAt = this.#core.now() + REPLENISH_EVERY_MS
      } else if (isDue(this.#signOfLifeAt, SIGN_OF_LIFE_MS, this.#core.now())) {
        await this.#core.registries.home.setPresence(this.#presence)
        this.#signOfLifeAt = this.#core.now() + SIGN_OF_LIFE_MS
      }
      this.#lastError = undefined
      this.#delay = FIRST_RETRY_MS
      this.#schedule(this.#publishedRelay === this.#relay && !this.#isOutdated ? 30_000 : 0)
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      if (this.#state !== 'stopped') this.#become('waiting', `${error.code}: ${error.message}`)
      if (error.code === 'SEQUENCE_REPLAYED') this.#startOver()
      else this.#schedule(Math.max(this.#delay, (error.retryAfterSeconds ?? 0) * 1000))
      this.#delay = Math.min(this.#delay * 2, MAX_RETRY_MS)
    }
  }

  /** Sends the record signed last when nothing in it changed: a registry takes the same record any number of times. */
  async #register(): Promise<void> {
    const { config, identity, registries, store } = this.#core
    const relay = this.#relay
    if (relay === undefined) throw new AgentMeshError('RELAY_DISCONNECTED', 'No home relay was chosen')
    const now = this.#core.now()
    const fields = {
      exchange_key: this.#keyring.currentExchangeKey().record,
      ...(config.display_name === undefined ? {} : { display_name: config.display_name }),
      ...(config.framework === undefined ? {} : { framework: config.framework }),
      ...(config.framework_version === undefined ? {} : { framework_version: config.framework_version }),
      capabilities: config.capabilities,
      relay_endpoint: relay,
      direct_endpoint: null,
      registry_endpoint: config.registry,
      p2p_capable: false,
      recovery_public_key: formatKey('ed25519', identity.recoveryPublicKey),
    }
    const content = canonicalText(fields)
    const known = store.tables.meta.get('registration') as Published | undefined
    let record = known?.content === content ? known.record : undefined
    if (!record) {
      const sequence = nextSequence(known?.record.sequence ?? 0, now)
      record = signRegistration(identity, { ...fields, sequence, created_at: formatTimestamp(now) })
      const published: Published = { content, record }
      await commit(this.#core, () => store.tables.meta.put('registration', published))
    }
    await registries.home.register(record)
    this.#publishedRelay = relay
    this.#keyring.forgetCounts()
  }
}
