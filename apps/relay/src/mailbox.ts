/**
 * Store-and-forward (specification §4.2, DESIGN §6): what a mailbox must do, whatever database is behind it.
 *
 * A relay does not know which AMIDs exist, so every AMID has a mailbox; what keeps that finite are the quotas. Nothing
 * acknowledged is ever dropped to make room: a message that does not fit is refused to its sender.
 *
 * Order. The engine numbers what it stores: a `position` is higher than every one that this mailbox was given in an earlier
 * commit, whichever relay wrote it. A message stands at the place of its own position, except what a closing connection
 * had been sent and left unacknowledged: it is stored after newer messages, and stands in front of them (`store`). A drain
 * walks from the front; what it had passed when something was stored in front of that, it sees when it starts again.
 *
 * `mailbox.test.ts` is the contract, run against each implementation.
 */
import type { Amid, MessageId, MessageType } from '@agentmesh/sdk/wire'

/** How long a state counter is kept after it was written last. */
export const STATE_COUNTER_TTL_MS = 30 * 86_400_000

export interface MailboxMessage {
  readonly to: Amid
  readonly from: Amid
  readonly id: MessageId
  readonly type: MessageType
  /** When the relay took it, milliseconds since the epoch. */
  readonly timestamp: number
  readonly payload: Uint8Array
}

/** Where a stored message stands: by place, and by position among those of one place. */
export interface Place {
  readonly place: number
  /** Names the stored copy: no other message of this mailbox ever has it. */
  readonly position: number
}

export interface StoredMessage extends MailboxMessage, Place {}

/** In front of every message. */
export const FRONT: Place = { place: 0, position: 0 }

export type StoreRefusal = 'mailbox-full' | 'sender-quota' | 'store-full'

/** `stored` also when (to, from, id) was there already: then the first copy stays, and only it. */
export type StoreOutcome = 'stored' | StoreRefusal

export interface Page {
  /** Only messages behind this one. */
  readonly after: Place
  readonly limit: number
  /** An agent in `dnd` is not knocked at: its KNOCKs stay in the mailbox. */
  readonly withKnocks: boolean
}

/**
 * Calls of one process take effect in the order they are made. All reject with RELAY_STORE_FAILED when the database does;
 * then what was to be stored or removed may be so or not.
 */
export interface Mailbox {
  /** Messages and payload bytes of all mailboxes; where several relays write, as of this one's last look. */
  readonly messages: number
  readonly bytes: number
  /**
   * Resolves after the commit.
   *
   * @param place behind everything up to this place and in front of everything else; default: behind everything
   */
  store(message: MailboxMessage, place?: number): Promise<StoreOutcome>
  /** From the front, unexpired. */
  page(to: Amid, page: Page): Promise<StoredMessage[]>
  count(to: Amid): Promise<number>
  /**
   * Forgets messages their receiver acknowledged, and keeps its state counter where it is higher than the one kept, in one
   * commit: a counter is never older than what was removed. 0 keeps nothing. When the store holds as many counters as it may,
   * one more is not kept.
   */
  remove(to: Amid, messages: readonly Place[], stateCounter: number): Promise<void>
  /** The highest state counter kept for an agent; 0 when none. */
  stateCounter(of: Amid): Promise<number>
  /** Deletes what is past its time, state counters too; returns how many messages. An engine may leave it for up to a day longer, unseen. */
  purge(): Promise<number>
  /** Whether the database can be written. */
  check(): Promise<boolean>
  close(): Promise<void>
  /**
   * Who was given messages since `mark`, and the mark for the next call; nobody for the first one, which has no mark. May
   * name somebody twice, never misses one. Only where several relays write to one database.
   */
  recipientsSince?(mark: string | undefined): Promise<{ readonly mark: string; readonly recipients: Amid[] }>
}
