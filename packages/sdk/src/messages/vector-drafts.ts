/** What the scenarios of test-vectors/session/ are made of: the messages said in them, and the way they are written. */
import type { OptimisticDraft } from '../session/index.ts'
import type { MessageId, ReceiptPayload } from '../wire/index.ts'
import type { MessageDraft } from './message.ts'
import { Recorder } from './vector-recorder.ts'

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}` as MessageId
export const request = (n: number): OptimisticDraft => ({
  type: 'request',
  id: id(n),
  payload: {
    intent: { category: 'travel', subcategory: 'flights', action: 'search' },
    parameters: { origin: 'TLV', destination: 'BER', passengers: 1, note: 'Grüße' },
    budget: { max: 500, currency: 'USD' },
  },
})

/** Over the least that an ACCEPT may allow. */
export const long = (draft: OptimisticDraft): OptimisticDraft => ({
  ...draft,
  payload: { ...draft.payload, parameters: { note: 'A'.repeat(5000) } },
})
export const status = (n: number, to: number): MessageDraft => ({
  type: 'status',
  id: id(n),
  inReplyTo: id(to),
  payload: { status: 'processing', progress: 0.6 },
})
export const response = (n: number, to: number): MessageDraft => ({
  type: 'response',
  id: id(n),
  inReplyTo: id(to),
  payload: { status: 'success', results: [{ flight: 'LH1234', price: 320.5 }], result_count: 1 },
})
/** Up to that sequence of the other side, and the CLOSE of that sequence. */
const upTo = (received: number, closed?: number): ReceiptPayload => ({
  received,
  ...(received === 0 ? {} : { read: [[1, received]] }),
  ...(closed === undefined ? {} : { closed }),
  at: '2026-02-01T12:00:10Z',
})
export const receipt = (n: number, received: number, closed?: number): MessageDraft => ({
  type: 'receipt',
  id: id(n),
  payload: upTo(received, closed),
})
export const close = (n: number, received: number, closed?: number): MessageDraft => ({
  type: 'close',
  id: id(n),
  payload: { reason: 'completed', reputation_feedback: { score: 1, tags: ['fast'] } },
  receipts: upTo(received, closed),
})

export function flipped(packet: Uint8Array, index: number): Uint8Array {
  const changed = Uint8Array.from(packet)
  changed[index] = changed[index]! ^ 0x01
  return changed
}

export type Scenario = readonly [name: string, section: string, description: string, play: () => Recorder]

/** A scenario that plays on a fresh recorder. */
export const scenario = (
  name: string,
  section: string,
  description: string,
  play: (recorder: Recorder) => unknown,
  oneTimeKeys = true,
): Scenario => [
  name,
  section,
  description,
  () => {
    const recorder = new Recorder(oneTimeKeys)
    play(recorder)
    return recorder
  },
]
