/** Whether a message fits into a mailbox: one rule for every engine. Expired messages count against nobody. */
import type { RelayLimits } from './limits.ts'
import type { StoreRefusal } from './mailbox.ts'

export type MailboxLimits = Pick<
  RelayLimits,
  | 'mailboxTtlMs'
  | 'mailboxMessages'
  | 'mailboxBytes'
  | 'senderMessages'
  | 'senderBytes'
  | 'senderTotalMessages'
  | 'storeMessages'
  | 'storeBytes'
  | 'stateCounters'
>

/** What is stored already: in the mailbox, of the sender in it, of the sender in all mailboxes, and altogether. */
export interface Usage {
  readonly messages: number
  readonly bytes: number
  readonly senderMessages: number
  readonly senderBytes: number
  readonly senderTotal: number
  readonly storeMessages: number
  readonly storeBytes: number
}

export function refusalOf(usage: Usage, size: number, limits: MailboxLimits): StoreRefusal | undefined {
  if (usage.senderMessages >= limits.senderMessages) return 'sender-quota'
  if (usage.senderBytes + size > limits.senderBytes) return 'sender-quota'
  if (usage.senderTotal >= limits.senderTotalMessages) return 'sender-quota'
  if (usage.messages >= limits.mailboxMessages) return 'mailbox-full'
  if (usage.bytes + size > limits.mailboxBytes) return 'mailbox-full'
  if (usage.storeMessages >= limits.storeMessages) return 'store-full'
  if (usage.storeBytes + size > limits.storeBytes) return 'store-full'
  return undefined
}
