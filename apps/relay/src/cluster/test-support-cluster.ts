/** Relays without sockets for the tests of the cluster: routers, one mailbox for all, and a bus in the place of NATS. */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  amidFromBytes,
  messageIdFromBytes,
  type Amid,
  type MessageType,
  type PresenceState,
  type RelayFrame,
} from '@agentmesh/sdk/wire'
import { Counters } from '../counters.ts'
import { DEFAULT_LIMITS, type RelayLimits } from '../limits.ts'
import { silentLogger } from '../logger.ts'
import type { Mailbox, MailboxMessage } from '../mailbox.ts'
import { MessageInPlace } from '../in-place/message-in-place.ts'
import type { Outlet } from '../outlet.ts'
import { Router } from '../router.ts'
import { SqliteMailbox } from '../sqlite-mailbox.ts'
import { Cluster } from './cluster.ts'
import { AmidMemo } from '../in-place/amid-memo.ts'
import type { InstanceId } from './cluster-wire.ts'
import type { ClusterLink, LinkEvents } from './link.ts'

export const amid = (number: number) => amidFromBytes(new Uint8Array(20).fill(number))
function messageId(number: number) {
  const bytes = Uint8Array.from([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
  new DataView(bytes.buffer).setUint32(0, number)
  return messageIdFromBytes(bytes)
}

interface Port {
  readonly events: LinkEvents
  up: boolean
}

/** Carries every message in a turn of its own, in order, unless `loses` says otherwise. */
export class Bus {
  readonly #ports = new Map<InstanceId, Port>()
  #way: { readonly from: InstanceId; readonly arrive: () => unknown }[] = []
  /** Asked for each message and receiver; one that is lost is gone without a word. */
  loses: () => boolean = () => false

  open(instance: InstanceId, events: LinkEvents): ClusterLink {
    const port: Port = { events, up: true }
    this.#ports.set(instance, port)
    const carry = (arrive: () => unknown) => this.#way.push({ from: instance, arrive })
    carry(() => events.onUp())
    const to = (target: Port, data: Uint8Array) => {
      if (!this.loses()) carry(() => target.up && target.events.onMessage(data))
    }
    return {
      get up() {
        return port.up
      },
      broadcast: (_, data) => {
        if (!port.up) return
        for (const each of this.#ports.values()) if (each !== port) to(each, data)
      },
      tell: (target, data) => {
        if (!port.up) return
        const there = this.#ports.get(target)
        if (there?.up === true) to(there, data)
        else carry(() => port.up && events.onAbsent(target))
      },
      close: async () => {
        this.#ports.delete(instance)
      },
    }
  }

  get busy(): boolean {
    return this.#way.length > 0
  }

  /** What is on its way arrives; what that sends comes the next time. */
  step(): void {
    const way = this.#way
    this.#way = []
    for (const { arrive } of way) arrive()
  }

  cut(instance: InstanceId): void {
    const port = this.#ports.get(instance)
    if (port?.up !== true) return
    port.up = false
    port.events.onDown()
  }

  join(instance: InstanceId): void {
    const port = this.#ports.get(instance)
    if (port?.up !== false) return
    port.up = true
    port.events.onUp()
  }

  /** The process is gone, and what it had on its way with it. */
  kill(instance: InstanceId): void {
    const port = this.#ports.get(instance)
    if (port !== undefined) port.up = false
    this.#ports.delete(instance)
    this.#way = this.#way.filter(({ from }) => from !== instance)
  }
}

/** What PostgreSQL is to a cluster: it also knows who was given mail. */
function sharedMailbox(limits: RelayLimits, now: () => number, gate: () => Promise<void>): Mailbox {
  const inner = new SqliteMailbox(':memory:', limits, now)
  const log: Amid[] = []
  return {
    get messages() {
      return inner.messages
    },
    get bytes() {
      return inner.bytes
    },
    store: async (message: MailboxMessage, place?: number) => {
      await gate()
      const outcome = await inner.store(message, place)
      log.push(message.to)
      return outcome
    },
    page: async (to, page) => inner.page(to, page),
    count: async (to) => inner.count(to),
    remove: async (to, messages, stateCounter) => inner.remove(to, messages, stateCounter),
    stateCounter: async (of) => inner.stateCounter(of),
    purge: async () => inner.purge(),
    check: async () => true,
    close: async () => inner.close(),
    recipientsSince: async (mark) => ({
      mark: String(log.length),
      recipients: mark === undefined ? [] : [...new Set(log.slice(Number(mark)))],
    }),
  }
}

/** An agent's connection to one of the relays. */
export class Wire implements Outlet {
  readonly amid: Amid
  readonly origin = undefined
  readonly relay: TestRelay
  readonly frames: RelayFrame[] = []
  connected = true
  #acknowledged = 0

  constructor(agent: Amid, relay: TestRelay) {
    this.amid = agent
    this.relay = relay
  }
  deliver(frame: RelayFrame): void {
    if (this.connected) this.frames.push(frame)
  }
  cut(code: string): void {
    if (!this.connected) return
    this.connected = false
    this.relay.router.detach(this)
    this.frames.push({ frame: 'ERROR', code: code as 'SLOW_READER', message: '', fatal: true })
  }
  /** The socket ended. */
  end(): void {
    this.connected = false
    this.relay.router.detach(this)
  }
  send(to: Amid, number: number, type: MessageType = 'message'): void {
    const message = { id: messageId(number), to, type, payload: Uint8Array.of(number) }
    this.relay.router.send(this, MessageInPlace.of(message))
  }
  /** Payloads received, in order. */
  received(): number[] {
    return this.frames.flatMap((frame) => (frame.frame === 'RECEIVE' ? [frame.payload[0]!] : []))
  }
  /** Acknowledges everything. @returns whether there was anything */
  acknowledge(): boolean {
    const last = this.frames.findLast((frame) => frame.frame === 'RECEIVE')
    if (last?.frame !== 'RECEIVE' || last.sequence === this.#acknowledged) return false
    this.#acknowledged = last.sequence
    this.relay.router.acknowledge(this, last.sequence, 0)
    return true
  }
  outcomes(number: number): string[] {
    return this.frames.flatMap((frame) =>
      frame.frame === 'SENT' && frame.id === messageId(number) ? [frame.code ?? frame.status] : [],
    )
  }
  presenceOf(agent: Amid): PresenceState | undefined {
    this.relay.router.answerPresence(this, agent)
    const answer = this.frames.findLast((frame) => frame.frame === 'PRESENCE_RESULT')
    return answer?.frame === 'PRESENCE_RESULT' ? answer.state : undefined
  }
  get code(): string | undefined {
    const last = this.frames.at(-1)
    return last?.frame === 'ERROR' ? last.code : undefined
  }
}

export class TestRelay {
  readonly cluster: Cluster
  readonly router: Router
  readonly counters = new Counters()

  constructor(bus: Bus, mailbox: Mailbox, limits: RelayLimits, now: () => number) {
    const shared = {
      mailbox,
      limits,
      counters: this.counters,
      logger: silentLogger,
      now,
      random: systemRandom,
    }
    this.cluster = new Cluster({
      ...shared,
      amids: new AmidMemo(),
      openLink: (instance, events) => bus.open(instance, events),
    })
    this.router = new Router({ ...shared, peers: this.cluster })
    this.cluster.start(this.router)
  }

  get instance(): InstanceId {
    return this.cluster.instance
  }

  connect(agent: Amid, presence: PresenceState = 'online'): Wire {
    const wire = new Wire(agent, this)
    void this.router.attach(wire, presence, 0)
    return wire
  }

  /** As the server does it. */
  async close(): Promise<void> {
    this.cluster.settle()
    await this.router.stop()
    await this.cluster.close()
  }
}

export class TestCluster {
  readonly bus = new Bus()
  readonly clock = { now: 1_000_000 }
  readonly mailbox: Mailbox
  /** What is stored from now on waits for this. */
  gate: Promise<void> = Promise.resolve()
  readonly #limits: RelayLimits

  constructor(limits: Partial<RelayLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
    this.mailbox = sharedMailbox(
      this.#limits,
      () => this.clock.now,
      () => this.gate,
    )
  }

  relay(): TestRelay {
    return new TestRelay(this.bus, this.mailbox, this.#limits, () => this.clock.now)
  }

  /** Until nothing moves any more but by time. */
  async quiet(): Promise<void> {
    for (let idle = 0; idle < 6; idle = this.bus.busy ? 0 : idle + 1) {
      this.bus.step()
      await new Promise<void>((resolve) => setImmediate(resolve))
    }
  }

  /** Some seconds pass at these relays. */
  async seconds(count: number, relays: readonly TestRelay[]): Promise<void> {
    for (let second = 0; second < count; second++) {
      this.clock.now += 1000
      for (const each of relays) {
        each.cluster.tick()
        each.router.tick()
      }
      await this.quiet()
    }
  }
}
