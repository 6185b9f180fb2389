/** What carries messages between the relays of a service. Nothing that is given to it is sure to arrive. */
import type { InstanceId } from './cluster-wire.ts'

export type Topic = 'presence' | 'mail'

export interface ClusterLink {
  /** Whether messages go out, as far as is known. */
  readonly up: boolean
  /** To every other relay. Nothing happens while the link is down. */
  broadcast(topic: Topic, data: Uint8Array): void
  /** To one relay; `onAbsent` follows when nobody is there to get it. Nothing happens while the link is down. */
  tell(instance: InstanceId, data: Uint8Array): void
  /** What was given to it before goes out first. */
  close(): Promise<void>
}

export interface LinkEvents {
  onUp(): void
  onDown(): void
  onMessage(data: Uint8Array): void
  onAbsent(instance: InstanceId): void
}

/** Opens the link of one relay; it comes up, and up again, by itself. */
export type OpenLink = (instance: InstanceId, events: LinkEvents) => ClusterLink
