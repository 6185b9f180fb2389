/** The format of test-vectors/session/ (spec/sessions.md 7). */
import type { OptimisticDraft } from '../session/index.ts'
import {
  type Accept,
  type Amid,
  type Bundle,
  type Constraints,
  type Envelope,
  type Knock,
  type RejectReason,
  type ResetReason,
  type ResetSubject,
  type SessionId,
} from '../wire/index.ts'
import type { Consumed, MessageDraft } from './message.ts'
import type { VectorAgent } from './vector-agents.ts'

export type Party = 'a' | 'b'
export const OTHER: Readonly<Record<Party, Party>> = { a: 'b', b: 'a' }
/** `random`: the draws in order, as one hex text. `expect`: `ok` or the code of the refusal. */
export type VectorStep =
  | {
      do: 'knock'
      now: number
      random: string
      intent: Knock['intent']
      session_request: Knock['session_request']
      optimistic?: OptimisticDraft
      packet: string
    }
  | {
      do: 'open'
      now: number
      from: Amid
      packet: string
      expect: string
      transcript?: string
      plaintext?: string
    }
  | {
      do: 'accept'
      now: number
      random: string
      session_id: SessionId
      constraints: Constraints
      packet: string
      accept: Accept
    }
  | {
      do: 'reject'
      now: number
      random: string
      reason: RejectReason
      human_readable: string
      packet: string
    }
  | { do: 'open-optimistic'; now: number; expect: string; envelope?: Envelope }
  | { do: 'answer'; now: number; type: 'accept' | 'reject'; packet: string; expect: string }
  | {
      do: 'send'
      by: Party
      now: number
      random: string
      draft: MessageDraft
      expect: string
      packet?: string
      envelope?: Envelope
    }
  | {
      do: 'receive'
      by: Party
      now: number
      type: 'message' | 'close'
      packet: string
      /** The code of a refusal that ends the session, or leaves it as it was; else `ok`. */
      expect: string
      sequence?: number
      /** The code with which the envelope was refused, its sequence used up. */
      refused?: string
      /** It came after the end: its sequence is used up, and nothing is answered. */
      late?: true
    }
  | {
      do: 'reset'
      by: Party
      now: number
      about: ResetSubject
      of: string
      reason: ResetReason
      received_up_to?: number
      packet: string
    }
  | { do: 'consume-reset'; by: Party; now: number; from: Amid; packet: string; expect: string }

export interface SessionVector {
  readonly description: string
  readonly section: string
  /** `ok`, or the code of the one step that is refused. */
  readonly expect: string
  readonly agents: Readonly<Record<Party, VectorAgent>>
  readonly bundle: Bundle
  readonly steps: readonly VectorStep[]
}

/** What a `receive` step says of what was read. */
export type Seen = Pick<Extract<VectorStep, { do: 'receive' }>, 'sequence' | 'refused' | 'late'>

export function seenOf(consumed: Exclude<Consumed, { kind: 'frame' }>): Seen {
  switch (consumed.kind) {
    case 'read':
      return { sequence: consumed.envelope.sequence }
    case 'refused':
      return { sequence: consumed.refused.sequence, refused: consumed.refused.code }
    case 'late':
      return { sequence: consumed.sequence, late: true }
  }
}
