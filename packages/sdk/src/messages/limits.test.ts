import { describe, expect, it } from 'vitest'
import { equalBytes } from '../crypto/index.ts'
import { decodeSession, encodeSession, type Session } from '../session/index.ts'
import { createMessage, relayTypeOf, type MessageDraft } from './message.ts'
import { NOW } from '../identity/test-support.ts'
import { outcome } from '../wire/test-support.ts'
import {
  close,
  environment,
  failure,
  makeEnds,
  need,
  offer,
  readMessage,
  receipt,
  request,
  response,
  status,
  type Terms,
} from './test-support.ts'

type Name = 'alice' | 'bob'
const OTHER = { alice: 'bob', bob: 'alice' } as const
const HOUR = 3_600_000

/** Every state a test reaches can be stored. */
function expectStorable(session: Session): void {
  const row = encodeSession(session)
  expect(equalBytes(encodeSession(decodeSession(row)), row)).toBe(true)
}

function expectUnchanged(session: Session, before: Uint8Array): void {
  expect(equalBytes(encodeSession(session), before)).toBe(true)
}

/** Two ends and the time; what one says, the other hears unless it is held back. */
class Talk {
  readonly #ends
  now = NOW

  constructor(terms?: Terms) {
    this.#ends = makeEnds(terms)
  }

  session(name: Name): Session {
    return this.#ends[name].session
  }

  #keep(name: Name, session: Session): void {
    expectStorable(session)
    this.#ends[name] = { ...this.#ends[name], session }
  }

  /** Makes a message without delivering it. */
  send(from: Name, draft: MessageDraft): () => string {
    const { session, identity } = this.#ends[from]
    const made = createMessage(session, draft, identity, environment(this.now))
    this.#keep(from, made.session)
    return () => this.#deliver(OTHER[from], made.packet, relayTypeOf(draft.type))
  }

  #deliver(to: Name, packet: Uint8Array, type: 'message' | 'close'): string {
    const before = encodeSession(this.session(to))
    const code = outcome(() =>
      this.#keep(to, readMessage(this.session(to), packet, type, environment(this.now)).session),
    )
    if (code !== 'ok') expectUnchanged(this.session(to), before)
    return code
  }

  /** Sends and delivers: `ok`, the sender's code, or the receiver's behind `receiver: `. */
  say(from: Name, draft: MessageDraft): string {
    let deliver = (): string => 'ok'
    const sent = outcome(() => {
      deliver = this.send(from, draft)
    })
    if (sent !== 'ok') return sent
    const received = deliver()
    return received === 'ok' ? 'ok' : `receiver: ${received}`
  }

  /** Forgets a limit of the sender's, as an agent that does not keep to it. */
  cheat(name: Name, changes: Partial<Session>): void {
    this.#ends[name] = { ...this.#ends[name], session: { ...this.session(name), ...changes } }
  }
}

describe('the number of messages', () => {
  it('is limited for each direction by itself, at the sender', () => {
    const talk = new Talk({ constraints: { max_messages: 2 } })
    expect([1, 2, 3].map(() => talk.say('alice', request()))).toEqual(['ok', 'ok', 'LIMIT_MESSAGES'])
    expect([1, 2, 3].map(() => talk.say('bob', response()))).toEqual(['ok', 'ok', 'LIMIT_MESSAGES'])
  })

  it('is limited at the receiver too', () => {
    const talk = new Talk({ constraints: { max_messages: 1 } })
    talk.say('alice', request())
    talk.cheat('alice', { sentCount: 0 })
    expect(talk.say('alice', request())).toBe('receiver: LIMIT_MESSAGES')
  })

  it('leaves room for receipts and the CLOSE', () => {
    const talk = new Talk({ constraints: { max_messages: 1 } })
    const said = [request(), receipt(), receipt(), close()].map((draft) => talk.say('alice', draft))
    expect(said).toEqual(['ok', 'ok', 'ok', 'ok'])
  })

  it.each(['conversation', 'stream'] as const)('is not used up by negotiating in a %s', (type) => {
    const talk = new Talk({ type, constraints: { max_messages: 1 } })
    const said = [
      talk.say('alice', need()),
      talk.say('bob', offer()),
      talk.say('alice', request()),
      talk.say('bob', need()),
      talk.say('alice', offer()),
      talk.say('bob', response()),
    ]
    expect(said).toEqual(['ok', 'ok', 'ok', 'ok', 'ok', 'ok'])
    expect([talk.session('alice').sentCount, talk.session('alice').receivedCount]).toEqual([1, 1])
    expect(talk.say('alice', need())).toBe('ok')
    expect(talk.say('alice', request())).toBe('LIMIT_MESSAGES')
  })

  it('has no limit in a stream', () => {
    const talk = new Talk({ type: 'stream' })
    for (let n = 0; n < 30; n++) expect(talk.say('alice', request())).toBe('ok')
    expect(talk.session('bob')).toMatchObject({ receivedCount: 30, received: { highest: 30, missing: [] } })
  })
})

describe('the time of a session', () => {
  it('ends for the sender when it is over', () => {
    const talk = new Talk()
    talk.now = NOW + HOUR - 1
    expect(talk.say('alice', request())).toBe('ok')
    talk.now = NOW + HOUR
    expect(talk.say('alice', request())).toBe('SESSION_EXPIRED')
    expect(talk.say('alice', need())).toBe('SESSION_EXPIRED')
    expect(talk.say('alice', close())).toBe('ok')
  })

  it('ends for the receiver too, beyond what two clocks may differ', () => {
    const talk = new Talk()
    talk.now = NOW + HOUR + 300_001
    talk.cheat('alice', { expiresAt: NOW + 10 * HOUR })
    expect(talk.say('alice', request())).toBe('receiver: SESSION_EXPIRED')
  })

  it('does not end for what was sent in time and waited in a mailbox', () => {
    const talk = new Talk()
    const deliver = talk.send('alice', request())
    const late = talk.send('alice', request())
    talk.now = NOW + 73 * HOUR
    expect(deliver()).toBe('ok')
    talk.now = NOW + 73 * HOUR + 300_001
    expect(late()).toBe('SESSION_EXPIRED')
  })
})

describe('a request_response session', () => {
  it('carries one request, statuses and one response', () => {
    const talk = new Talk({ type: 'request_response' })
    expect(talk.say('bob', response())).toBe('OUT_OF_TURN')
    expect(talk.say('alice', request())).toBe('ok')
    expect(talk.say('alice', request())).toBe('OUT_OF_TURN')
    expect(talk.say('alice', response())).toBe('OUT_OF_TURN')
    expect(talk.say('bob', status())).toBe('ok')
    expect(talk.say('bob', response())).toBe('ok')
    expect(talk.say('bob', failure())).toBe('OUT_OF_TURN')
    expect(talk.say('alice', request())).toBe('OUT_OF_TURN')
    expect([talk.session('alice').exchange, talk.session('bob').exchange]).toEqual(['answered', 'answered'])
  })

  it('is answered by an error as well', () => {
    const talk = new Talk({ type: 'request_response' })
    talk.say('alice', request())
    expect(talk.say('bob', failure())).toBe('ok')
    expect(talk.say('bob', response())).toBe('OUT_OF_TURN')
  })

  it('refuses a second request at the receiver', () => {
    const talk = new Talk({ type: 'request_response' })
    talk.say('alice', request())
    talk.cheat('alice', { exchange: 'idle' })
    expect(talk.say('alice', request())).toBe('receiver: OUT_OF_TURN')
  })

  it('refuses an answer to nothing at the receiver', () => {
    const talk = new Talk({ type: 'request_response' })
    talk.cheat('bob', { exchange: 'asked' })
    expect(talk.say('bob', response())).toBe('receiver: OUT_OF_TURN')
  })

  it('has no turn for negotiating, at either end', () => {
    const talk = new Talk({ type: 'request_response' })
    expect([talk.say('alice', need()), talk.say('bob', offer())]).toEqual(['OUT_OF_TURN', 'OUT_OF_TURN'])
    talk.cheat('alice', { type: 'conversation' })
    expect(talk.say('alice', need())).toBe('receiver: OUT_OF_TURN')
    talk.cheat('bob', { type: 'conversation' })
    talk.cheat('alice', { type: 'request_response' })
    expect(talk.say('bob', offer())).toBe('receiver: OUT_OF_TURN')
  })

  it('takes a status that was overtaken by the answer', () => {
    const talk = new Talk({ type: 'request_response' })
    talk.say('alice', request())
    const overtaken = talk.send('bob', status())
    expect(talk.say('bob', response())).toBe('ok')
    expect(overtaken()).toBe('ok')
  })

  it('lets both sides end it', () => {
    const talk = new Talk({ type: 'request_response' })
    talk.say('alice', request())
    talk.say('bob', response())
    expect([talk.say('alice', close()), talk.say('bob', close())]).toEqual(['ok', 'ok'])
    expect([talk.session('alice').closes, talk.session('bob').closes]).toEqual(['both', 'both'])
  })
})

describe('a conversation', () => {
  it('lets both sides ask and answer in any turn', () => {
    const talk = new Talk()
    const turns = [
      talk.say('bob', request()),
      talk.say('alice', request()),
      talk.say('alice', response()),
      talk.say('bob', response()),
      talk.say('alice', status()),
    ]
    expect(turns).toEqual(['ok', 'ok', 'ok', 'ok', 'ok'])
  })
})

describe('a CLOSE', () => {
  it('closes both ends and keeps its reason', () => {
    const talk = new Talk()
    expect(talk.say('alice', close())).toBe('ok')
    expect(talk.session('alice')).toMatchObject({
      state: 'closed',
      closes: 'ours',
      closeReason: 'completed',
    })
    expect(talk.session('bob')).toMatchObject({
      state: 'closed',
      closes: 'theirs',
      closeReason: 'completed',
    })
  })

  it('is followed by nothing but the other side’s CLOSE and receipts', () => {
    const talk = new Talk()
    talk.say('alice', close())
    expect(talk.say('bob', request())).toBe('SESSION_CLOSED')
    expect(talk.say('bob', need())).toBe('SESSION_CLOSED')
    expect(talk.say('alice', request())).toBe('SESSION_CLOSED')
    expect(talk.say('alice', close())).toBe('SESSION_CLOSED')
    expect(talk.say('bob', receipt())).toBe('ok')
    expect(talk.say('bob', close())).toBe('ok')
    expect(talk.session('alice').closes).toBe('both')
  })

  it('does not shut out what its sender said before', () => {
    const talk = new Talk()
    const overtaken = talk.send('alice', request())
    expect(talk.say('alice', close())).toBe('ok')
    expect(overtaken()).toBe('ok')
  })

  it('shuts out what its sender says after it', () => {
    const talk = new Talk()
    talk.say('alice', close())
    talk.cheat('alice', { state: 'open', closes: 'none' })
    expect(talk.say('alice', request())).toBe('receiver: SESSION_CLOSED')
    expect(talk.say('alice', close())).toBe('receiver: SESSION_CLOSED')
  })

  it('shuts out what the other side said meanwhile', () => {
    const talk = new Talk()
    const crossing = talk.send('bob', response())
    talk.say('alice', close())
    expect(crossing()).toBe('SESSION_CLOSED')
  })

  it('may cross the other side’s', () => {
    const talk = new Talk()
    const fromAlice = talk.send('alice', close())
    const fromBob = talk.send('bob', close())
    expect([fromAlice(), fromBob()]).toEqual(['ok', 'ok'])
    expect([talk.session('alice').closes, talk.session('bob').closes]).toEqual(['both', 'both'])
  })

  it('may be said again by the responder, once, when two crossed: it answers the initiator’s', () => {
    const talk = new Talk()
    const crossing = [talk.send('alice', close()), talk.send('bob', close())]
    expect(crossing.map((deliver) => deliver())).toEqual(['ok', 'ok'])
    expect(talk.say('alice', close())).toBe('SESSION_CLOSED')
    expect(talk.say('bob', request())).toBe('SESSION_CLOSED')
    expect(talk.say('bob', close())).toBe('ok')
    expect([talk.session('alice').closes, talk.session('bob').closes]).toEqual(['settled', 'settled'])
    expect(talk.say('bob', close())).toBe('SESSION_CLOSED')
    talk.cheat('bob', { closes: 'both' })
    expect(talk.say('bob', close())).toBe('receiver: SESSION_CLOSED')
    talk.cheat('alice', { state: 'open', closes: 'none' })
    expect(talk.say('alice', close())).toBe('receiver: SESSION_CLOSED')
  })

  it('is not needed where the owner ended the session', () => {
    const talk = new Talk()
    talk.cheat('bob', { state: 'closed', closeReason: 'killed' })
    expect(talk.say('bob', request())).toBe('SESSION_CLOSED')
    expect(talk.say('alice', request())).toBe('receiver: SESSION_CLOSED')
  })

  it('is not possible, nor a receipt, on a session that was given up without one', () => {
    const talk = new Talk()
    talk.cheat('alice', { state: 'closed', closeReason: 'error' })
    for (const draft of [receipt(), close(), request()])
      expect(talk.say('alice', draft)).toBe('SESSION_CLOSED')
  })
})
