/**
 * Brings what waits in an agent's mailbox to its connection, page by page while its window has room, until the mailbox is
 * empty and the connection `live`.
 */
import type { Amid } from '@agentmesh/sdk/wire'
import type { Attachment, Attachments } from './attachments.ts'
import type { RelayLogger } from './logger.ts'
import { STORE_RETRY_SECONDS } from './mail-writer.ts'
import { FRONT, type Mailbox, type Place } from './mailbox.ts'
import { InFlight, MessageInPlace, SentInPlace } from './in-place/message-in-place.ts'
import type { Outlet } from './outlet.ts'

const PAGE_MESSAGES = 16

export class MailDrain {
  readonly #mailbox: Mailbox
  readonly #logger: RelayLogger
  readonly #attachments: Attachments

  constructor({ mailbox, logger }: { mailbox: Mailbox; logger: RelayLogger }, attachments: Attachments) {
    this.#mailbox = mailbox
    this.#logger = logger
    this.#attachments = attachments
  }

  /** Sends pages of the mailbox while there is room, and goes live when nothing is left and nothing is on its way. */
  async run(attachment: Attachment): Promise<void> {
    if (attachment.mode !== 'draining' || attachment.reading) return
    const { outlet } = attachment
    attachment.reading = true
    try {
      while (this.#attachments.hasRoom(attachment)) {
        const { arrivals } = attachment
        attachment.acknowledged.clear()
        const withKnocks = attachment.presence !== 'dnd'
        const page = await this.#mailbox.page(outlet.amid, {
          after: attachment.cursor,
          limit: PAGE_MESSAGES,
          withKnocks,
        })
        if (this.#attachments.of(outlet) === undefined) return
        // The page was read for another presence.
        if (withKnocks !== (attachment.presence !== 'dnd')) continue
        if (page.length === 0) {
          if (attachment.again) {
            attachment.again = false
            attachment.cursor = FRONT
            continue
          }
          if (attachment.arrivals !== arrivals) continue
          attachment.mode = 'live'
          return
        }
        for (const { place, position, from, timestamp, ...message } of page) {
          attachment.cursor = { place, position }
          if (attachment.acknowledged.has(`${from} ${message.id}`)) {
            this.remove(outlet.amid, [attachment.cursor], attachment.stateCounter)
            continue
          }
          const found = MessageInPlace.of(message)
          const earlier = attachment.window.find(from, found)
          if (earlier !== undefined) this.#nowStored(earlier, attachment.cursor)
          else {
            const entry = new InFlight<Outlet>(found, from, timestamp, undefined, attachment.cursor)
            this.#attachments.deliver(attachment, entry)
          }
        }
      }
    } catch (error) {
      this.failed(outlet, error)
    } finally {
      attachment.reading = false
    }
  }

  /** Another relay stored what was delivered here already: its ACK is to take it out of the mailbox. */
  #nowStored(entry: InFlight<Outlet>, place: Place): void {
    if (entry.place !== undefined) return
    const { sender } = entry
    entry.place = place
    entry.sender = undefined
    sender?.deliver(new SentInPlace(entry, 'stored'))
  }

  /** What was acknowledged. @param stateCounter of the state that took it, or 0 when that is written already */
  remove(amid: Amid, places: readonly Place[], stateCounter: number): void {
    this.#mailbox.remove(amid, places, stateCounter).catch((error: unknown) => {
      // They stay and come again: the receiver's duplicate filter takes them once.
      this.#logger.error({ err: error }, 'acknowledged messages not removed')
    })
  }

  /** The connection ends: without its mailbox it cannot be served. */
  failed(outlet: Outlet, error: unknown): void {
    this.#logger.error({ err: error }, 'mailbox not read')
    outlet.cut('RELAY_STORE_FAILED', STORE_RETRY_SECONDS)
  }
}
