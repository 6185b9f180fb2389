import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { equalBytes, ratchetEncrypt, sign } from '../crypto/index.ts'
import { associatedData, encodeSession, type Session } from '../session/index.ts'
import {
  canonicalBytes,
  encodeSessionPacket,
  envelopeBytes,
  formatTimestamp,
  idToBytes,
  newMessageId,
  newSessionId,
  toBase64,
  utf8Bytes,
} from '../wire/index.ts'
import { consumeMessage, createMessage, type MessageDraft } from './message.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import {
  close,
  environment,
  makeEnds,
  readMessage,
  receipt,
  request,
  response,
  status,
  type End,
} from './test-support.ts'

const send = (end: End, draft: MessageDraft, now = NOW) =>
  createMessage(end.session, draft, end.identity, environment(now))
const read = (session: Session, packet: Uint8Array, type: 'message' | 'close' = 'message', now = NOW) =>
  readMessage(session, packet, type, environment(now))

/** The code with which `session` refuses the packet, having seen that it stayed as it was, byte for byte. */
function refusal(
  session: Session,
  packet: Uint8Array,
  type: 'message' | 'close' = 'message',
  now = NOW,
): string {
  const before = encodeSession(session)
  const code = outcome(() => read(session, packet, type, now))
  expect(equalBytes(encodeSession(session), before)).toBe(true)
  return code
}

describe('a message', () => {
  it('arrives as it was sent, both ways', () => {
    const { alice, bob } = makeEnds()
    const asked = send(alice, request({ from: 'TLV', to: 'BER' }))
    const received = read(bob.session, asked.packet)
    expect(received.envelope).toEqual(asked.envelope)
    expect(received.envelope).toMatchObject({ sequence: 1, from: alice.identity.amid, type: 'request' })

    const answer = { ...response([{ flight: 'LH1' }]), inReplyTo: asked.envelope.id }
    const answered = send({ ...bob, session: received.session }, answer)
    const got = read(asked.session, answered.packet).envelope
    expect(got).toMatchObject({ sequence: 1, in_reply_to: asked.envelope.id, payload: answer.payload })
  })

  it('takes receipts along under its signature', () => {
    const { alice, bob } = makeEnds()
    const { payload: receipts } = receipt()
    const sent = send(alice, { ...request(), receipts })
    expect(read(bob.session, sent.packet).envelope.receipts).toEqual(receipts)
    const text = JSON.stringify({ ...sent.envelope, receipts: { ...receipts, received: 7 } })
    expect(refusal(bob.session, forged(alice, {}, { text }))).toBe('INVALID_SIGNATURE')
  })

  it('has a sequence from 1 without gaps in each direction', () => {
    const { alice, bob } = makeEnds()
    let ends = { alice, bob }
    const seen: number[][] = [[], []]
    for (let n = 0; n < 4; n++) {
      const there = send(ends.alice, request())
      const atBob = read(ends.bob.session, there.packet)
      const back = send({ ...bob, session: atBob.session }, response())
      const atAlice = read(there.session, back.packet)
      seen[0]!.push(atBob.envelope.sequence)
      seen[1]!.push(atAlice.envelope.sequence)
      ends = { alice: { ...alice, session: atAlice.session }, bob: { ...bob, session: back.session } }
    }
    expect(seen).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ])
  })

  it('is delivered once, in whatever order messages arrive', () => {
    const { alice, bob } = makeEnds({ constraints: { max_messages: null } })
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 9 }), { minLength: 1, maxLength: 30 }), (arrivals) => {
        const packets: Uint8Array[] = []
        let sender = alice
        for (let n = 0; n < 10; n++) {
          const { session, packet } = send(sender, request({ n }))
          packets.push(packet)
          sender = { ...sender, session }
        }
        let { session } = bob
        const delivered = new Set<number>()
        for (const index of arrivals) {
          const code = outcome(() => {
            const { envelope, session: next } = read(session, packets[index]!)
            expect(envelope.payload).toMatchObject({ parameters: { n: index } })
            session = next
          })
          expect(code).toBe(delivered.has(index) ? 'RATCHET_DUPLICATE' : 'ok')
          delivered.add(index)
        }
        expect(session.receivedCount).toBe(delivered.size)
        const highest = Math.max(...delivered) + 1
        const open = Array.from({ length: highest }, (_, n) => n + 1).filter((n) => !delivered.has(n - 1))
        expect(session.received).toEqual({ highest, missing: open })
      }),
      { numRuns: 25 },
    )
  })

  it('is refused before it is made when it cannot be carried exactly', () => {
    const { alice } = makeEnds()
    const nested = (depth: number): unknown => (depth === 0 ? 0 : [nested(depth - 1)])
    const codes = [
      { n: 2 ** 53 },
      { text: '\ud800' },
      { deep: nested(40) },
      JSON.parse('{"__proto__": 1}') as Record<string, unknown>,
      { big: 1n },
      { none: Number.NaN },
    ].map((parameters) => outcome(() => send(alice, request(parameters))))
    expect(codes).toEqual([
      'JSON_NUMBER',
      'MALFORMED',
      'JSON_DEPTH',
      'JSON_FORBIDDEN_KEY',
      'MALFORMED',
      'MALFORMED',
    ])
    const wrong = { ...status(), payload: { status: 'processing', progress: 2 } } as MessageDraft
    expect(outcome(() => send(alice, wrong))).toBe('MALFORMED')
  })

  it('signs what it sends when the payload has fields that JSON leaves out', () => {
    const { alice, bob } = makeEnds()
    const { packet } = send(alice, request({ there: 1, gone: undefined, date: new Date(NOW) }))
    expect(read(bob.session, packet).envelope.payload).toMatchObject({
      parameters: { there: 1, date: '2026-02-01T12:00:00.000Z' },
    })
  })

  it('counts its canonical bytes, signature included, against the size limit', () => {
    const { alice, bob } = makeEnds()
    const size = envelopeBytes(send(alice, request({ text: 'é'.repeat(100) })).envelope).length
    const limited = (end: End, bytes: number): End => ({
      ...end,
      session: {
        ...end.session,
        constraints: { ...end.session.constraints, max_message_size_bytes: bytes },
      },
    })
    const draft = request({ text: 'é'.repeat(100) })
    expect(outcome(() => send(limited(alice, size), draft))).toBe('ok')
    expect(outcome(() => send(limited(alice, size - 1), draft))).toBe('LIMIT_SIZE')
    const { packet } = send(alice, draft)
    expect(refusal(limited(bob, size - 1).session, packet)).toBe('LIMIT_SIZE')
    expect(refusal(limited(bob, size).session, packet)).toBe('ok')
  })
})

/** A message made with the sender's ratchet and everything else as the attacker likes. */
function forged(
  from: End,
  changes: Readonly<Record<string, unknown>>,
  options: { signer?: End; direction?: number; relayType?: 'message' | 'close'; text?: string } = {},
): Uint8Array {
  const { session } = from
  const unsigned = {
    session_id: session.id,
    id: newMessageId(testRandom('forged')),
    sequence: session.sendSequence + 1,
    from: session.self,
    to: session.peer,
    type: 'request',
    timestamp: formatTimestamp(NOW),
    payload: request().payload,
    ...changes,
  }
  const signature = sign(
    'envelope',
    (options.signer ?? from).identity.signing.secretKey,
    Uint8Array.of(options.direction ?? (session.role === 'initiator' ? 1 : 2)),
    canonicalBytes(unsigned),
  )
  const text = options.text ?? JSON.stringify({ ...unsigned, signature: toBase64(signature) })
  const place = associatedData({
    type: options.relayType ?? 'message',
    version: session.version,
    context: idToBytes(session.id),
    from: session.self,
    to: session.peer,
  })
  const { message } = ratchetEncrypt(session.ratchet, utf8Bytes(text), place, environment())
  return encodeSessionPacket({ sessionId: session.id, ratchetMessage: message })
}

describe('an attacker', () => {
  const { alice, bob } = makeEnds()
  const { packet, envelope, session: afterFirst } = send(alice, request())
  const other = newSessionId(testRandom('other session'))

  it('who changes nothing is read: the cases below fail for what they change', () => {
    expect(refusal(bob.session, forged(alice, {}))).toBe('ok')
  })

  it('cannot make a relay’s change of type go unnoticed', () => {
    expect(refusal(bob.session, packet, 'close')).toBe('DECRYPTION_FAILED')
    expect(refusal(bob.session, send(alice, close()).packet, 'message')).toBe('DECRYPTION_FAILED')
    expect(refusal(bob.session, forged(alice, {}, { relayType: 'close' }), 'close')).toBe('SESSION_MISMATCH')
  })

  it('cannot move a message to another session', () => {
    const moved = encodeSessionPacket({ sessionId: other, ratchetMessage: packet.subarray(16) })
    expect(refusal(bob.session, moved)).toBe('SESSION_MISMATCH')
    expect(refusal({ ...bob.session, id: other }, moved)).toBe('DECRYPTION_FAILED')
    expect(refusal(bob.session, forged(alice, { session_id: other }))).toBe('SESSION_MISMATCH')
  })

  it('cannot change sender or receiver', () => {
    const mallory = makeEnds().bob.identity.amid
    expect(refusal({ ...bob.session, peer: mallory }, packet)).toBe('DECRYPTION_FAILED')
    expect(refusal(bob.session, forged(alice, { from: bob.identity.amid }))).toBe('SESSION_MISMATCH')
    expect(refusal(bob.session, forged(alice, { to: alice.identity.amid }))).toBe('SESSION_MISMATCH')
  })

  it('cannot reflect a message to its sender', () => {
    expect(refusal(alice.session, packet)).toBe('DECRYPTION_FAILED')
  })

  it('cannot use a signature in another direction or by another key', () => {
    expect(refusal(bob.session, forged(alice, {}, { direction: 2 }))).toBe('INVALID_SIGNATURE')
    expect(refusal(bob.session, forged(alice, {}, { signer: bob }))).toBe('INVALID_SIGNATURE')
  })

  it('cannot take a signature along to another session', () => {
    const text = JSON.stringify({ ...envelope, session_id: bob.session.id, sequence: 2 })
    expect(refusal(bob.session, forged(alice, {}, { text }))).toBe('INVALID_SIGNATURE')
  })

  it('cannot add a field after signing', () => {
    const text = JSON.stringify({ ...envelope, x_note: 'mine' })
    expect(refusal(bob.session, forged(alice, {}, { text }))).toBe('INVALID_SIGNATURE')
    expect(refusal(bob.session, forged(alice, { x_note: 'mine' }))).toBe('ok')
  })

  it('cannot send what is not strict JSON or no known type', () => {
    const valid = JSON.stringify(envelope)
    const twice = `${valid.slice(0, -1)},"type":"close"}`
    expect(refusal(bob.session, forged(alice, {}, { text: twice }))).toBe('ENVELOPE_UNREADABLE')
    expect(refusal(bob.session, forged(alice, { type: 'constructor' }))).toBe('UNSUPPORTED_TYPE')
    expect(refusal(bob.session, forged(alice, { type: 'response' }))).toBe('MALFORMED')
  })

  it('cannot repeat a sequence number under a fresh ratchet key', () => {
    const first = read(bob.session, packet).session
    const next = { ...alice, session: afterFirst }
    const again = forged(next, { sequence: 1 })
    expect(refusal(first, again)).toBe('SEQUENCE_REPEATED')
    expect(refusal(first, forged(next, { sequence: 0 }))).toBe('ENVELOPE_UNREADABLE')
  })

  it('cannot replay a message', () => {
    expect(refusal(read(bob.session, packet).session, packet)).toBe('RATCHET_DUPLICATE')
  })

  it('cannot date a message before its session or in the future', () => {
    const at = (time: number) => forged(alice, { timestamp: formatTimestamp(time) })
    expect(refusal(bob.session, at(NOW + 300_001))).toBe('TIME_IMPLAUSIBLE')
    expect(refusal(bob.session, at(NOW - 300_001))).toBe('TIME_IMPLAUSIBLE')
    expect(refusal(bob.session, at(NOW + 300_000))).toBe('ok')
    // Nobody says a receipt again, so a receiver whose own clock is behind would wait for it for good.
    const late = {
      type: 'receipt' as const,
      payload: { received: 0, at: formatTimestamp(NOW) },
    }
    const ahead = forged(alice, { ...late, timestamp: formatTimestamp(NOW + 7_200_000) })
    expect(refusal(bob.session, ahead)).toBe('ok')
  })

  it('cannot jump so far ahead that it fills memory', () => {
    const second = { ...alice, session: afterFirst }
    const third = { ...alice, session: send(second, request()).session }
    let { session } = read(bob.session, packet)
    session = read(session, forged(second, { sequence: 5000 })).session
    expect(session.received.missing).toHaveLength(2000)
    session = read(session, forged(third, { sequence: Number.MAX_SAFE_INTEGER })).session
    expect(session.received.missing).toHaveLength(2000)
    expect(session.received.missing.at(-1)).toBe(Number.MAX_SAFE_INTEGER - 1)
  })

  it('cannot change any byte of a packet', () => {
    fc.assert(
      fc.property(fc.nat({ max: packet.length - 1 }), fc.integer({ min: 1, max: 255 }), (index, mask) => {
        const changed = Uint8Array.from(packet)
        changed[index] = changed[index]! ^ mask
        expect(refusal(bob.session, changed)).not.toBe('ok')
        expect(refusal(bob.session, packet.subarray(0, index))).not.toBe('ok')
      }),
      { numRuns: 200 },
    )
    expect(refusal(bob.session, packet)).toBe('ok')
  })
})

describe('a refused envelope', () => {
  const { alice, bob } = makeEnds()
  const spoken = send(alice, request())
  const heard = read(bob.session, spoken.packet).session
  const talking = { ...alice, session: spoken.session }
  const next = send(talking, request())
  const consume = (session: Session, packet: Uint8Array) =>
    consumeMessage(session, packet, 'message', environment())

  it.each([
    ['of an unknown type', { type: 'invoice' }, 'UNSUPPORTED_TYPE'],
    ['without its parameters', { payload: { intent: { category: 'travel' } } }, 'MALFORMED'],
    ['dated ahead', { timestamp: formatTimestamp(NOW + 400_000) }, 'TIME_IMPLAUSIBLE'],
    [
      'with a receipt for what was never sent',
      { receipts: { received: 1, at: formatTimestamp(NOW) } },
      'RECEIPTS_IMPOSSIBLE',
    ],
  ])('%s uses up its sequence, and the next one is read', (_, changes, code) => {
    const refused = consume(heard, forged(talking, changes))
    expect(refused).toMatchObject({ kind: 'refused', refused: { code, sequence: 2 } })
    const after = send({ ...alice, session: next.session }, request())
    expect(consume(refused.session, after.packet)).toMatchObject({ kind: 'read', envelope: { sequence: 3 } })
    expect(refused.session.receivedCount).toBe(1)
  })

  it('that came after our own CLOSE is passed over, and receipts are still read', () => {
    const closed = send({ ...bob, session: heard }, close()).session
    expect(consume(closed, next.packet)).toMatchObject({ kind: 'late', sequence: 2 })
    const told = send(talking, receipt())
    expect(consume(closed, told.packet)).toMatchObject({ kind: 'read', envelope: { type: 'receipt' } })
  })
})
