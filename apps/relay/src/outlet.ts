/** What the router knows of a connection, and of the other relays of its service. */
import type { Amid, ErrorCode, MessageId, PresenceState, RelayFrame } from '@agentmesh/sdk/wire'
import type { MailboxMessage } from './mailbox.ts'
import type { Origin } from './origin.ts'

/** A connection, as the router sees it. */
export interface Outlet {
  readonly amid: Amid
  /** Undefined for a sender at another relay: there it is held to the limits of its address. */
  readonly origin: Origin | undefined
  /** Nothing happens when it has ended. */
  deliver(frame: RelayFrame): void
  cut(code: ErrorCode, retryAfterSeconds?: number): void
}

/** The other relays of a cluster, as the router needs them. */
export interface Peers {
  /** Other relays at work. */
  readonly relays: number
  /** A connection begins: the agent is here from now on, and not elsewhere. */
  attached(amid: Amid, presence: PresenceState): void
  presenceChanged(amid: Amid, presence: PresenceState): void
  detached(amid: Amid): void
  /** `undefined` when no other relay has the agent. */
  presenceOf(amid: Amid): PresenceState | undefined
  /**
   * Whether another relay has the receiver and is given the message. Then `sender` gets its SENT from there, or, when nothing
   * is heard, the message comes back through `Router.take`.
   */
  forward(message: MailboxMessage, sender: Outlet): boolean
  /** A message for an agent that is not connected here is in its mailbox. */
  mailStored(to: Amid): void
}

/** SENT with a refusal. */
export function deliverRefusal(
  sender: Outlet,
  id: MessageId,
  code: ErrorCode,
  retryAfterSeconds?: number,
): void {
  sender.deliver({
    frame: 'SENT',
    id,
    status: 'refused',
    code,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  })
}
