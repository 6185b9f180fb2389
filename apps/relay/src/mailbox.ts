/**
 * Store-and-forward (specification §4.2, DESIGN §6): what a mailbox must do, whatever database is behind it.
 *
 * A relay does not know which AMIDs exist, so every AMID has a mailbox; what keeps that finite are the quotas. Nothing
 * acknowledged is ever dropped to make room: a message that does not fit is refused to its sender.
 *
 * `mailbox.test.ts` is the contract, run against each implementation.
 */
import type { Amid, MessageId, MessageType } from '@agentmesh/sdk/wire'

export interface MailboxMessage {
  readonly to: Amid
  readonly from: Amid
  readonly id: MessageId
  readonly type: MessageType
  /**
   * Place in the order in which the relay took messages, strictly increasing. It is given when a message is taken and not
   * when it is stored, because what a closing connection leaves unacknowledged is stored after newer messages.
   */
  readonly position: number
  /** When the relay took it, milliseconds since the epoch. */
  readonly timestamp: number
  readonly payload: Uint8Array
}

/** `stored` also when (to, from, id) was there already: then the first copy stays, and only it. */
export type StoreOutcome = 'stored' | 'mailbox-full' | 'sender-quota' | 'store-full'

export interface Page {
  /** Only positions above this one. */
  readonly after: number
  readonly limit: number
  /** An agent in `dnd` is not knocked at: its KNOCKs stay in the mailbox. */
  readonly withKnocks: boolean
}

/** Calls take effect in the order they are made. All reject with RELAY_STORE_FAILED when the database does. */
export interface Mailbox {
  /** The highest position ever stored here: where a restarted relay goes on. */
  readonly lastPosition: number
  readonly messages: number
  readonly bytes: number
  /** Resolves after the commit. */
  store(message: MailboxMessage): Promise<StoreOutcome>
  /** By position, unexpired. */
  page(to: Amid, page: Page): Promise<MailboxMessage[]>
  count(to: Amid): Promise<number>
  /** Forgets messages their receiver acknowledged. */
  remove(to: Amid, positions: readonly number[]): Promise<void>
  /** Deletes what is past its time; returns how many. */
  purge(): Promise<number>
  /** Whether the database can be written. */
  check(): Promise<boolean>
  close(): Promise<void>
}
