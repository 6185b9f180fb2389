import assert from 'node:assert/strict'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isAgentMeshError, type ErrorCode } from '../wire/errors.ts'
import { KEM_STEP_MESSAGES, KEM_STEP_SECONDS, MAX_CHAIN_MESSAGES, MAX_SKIPPED_KEYS } from './constants.ts'
import { ownRatchetKey, ratchetDecrypt, ratchetEncrypt, ratchetInitiate, theirRatchetKey } from './ratchet.ts'
import { decodeRatchetState, encodeRatchetState, type RatchetState } from './ratchet-state.ts'
import { kemKeyPair, x25519KeyPair } from './primitives.ts'
import { flipBit, makeSession, seededRandom } from './test-support.ts'

const AD = new TextEncoder().encode('session, both AMIDs, type, version')
const text = (value: string) => new TextEncoder().encode(value)
const read = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
const START = 1_700_000_000_000

/** Two ends whose states move on; what is sent is handed back, to be delivered when the test likes. */
class Pair {
  readonly random = seededRandom('ratchet tests')
  now = START
  readonly states: { a: RatchetState; b: RatchetState }

  constructor() {
    const { a, b } = makeSession({ random: this.random, now: this.now })
    this.states = { a, b }
  }

  send(from: 'a' | 'b', body: string): Uint8Array {
    const { state, message } = ratchetEncrypt(this.states[from], text(body), AD, this)
    this.states[from] = state
    return message
  }

  receive(to: 'a' | 'b', message: Uint8Array): string {
    const { state, plaintext } = ratchetDecrypt(this.states[to], message, AD, this)
    this.states[to] = state
    return read(plaintext)
  }
}

/** One message each way. */
function assertRoundTrip(pair: Pair): void {
  assert.equal(pair.receive('a', pair.send('b', 'ping')), 'ping')
  assert.equal(pair.receive('b', pair.send('a', 'pong')), 'pong')
}

/** This very code, and the state as it was. */
function assertRefused(
  pair: Pair,
  to: 'a' | 'b',
  message: Uint8Array,
  code: ErrorCode | readonly ErrorCode[],
  associatedData = AD,
): void {
  const before = encodeRatchetState(pair.states[to])
  assert.throws(
    () => ratchetDecrypt(pair.states[to], message, associatedData, pair),
    (error) => isAgentMeshError(error) && [code].flat().includes(error.code),
  )
  assert.deepEqual(encodeRatchetState(pair.states[to]), before)
}

function last<T>(items: readonly T[]): T {
  const item = items.at(-1)
  if (item === undefined) throw new Error('nothing in the list')
  return item
}

describe('the Double Ratchet', () => {
  it('carries a conversation in turns', () => {
    const pair = new Pair()
    for (let n = 0; n < 5; n++) assertRoundTrip(pair)
  })

  it('shows both sides the same RK_B around the ACCEPT', () => {
    const pair = new Pair()
    const sent = ownRatchetKey(pair.states.b)
    expect(theirRatchetKey(pair.states.a)).toBeUndefined()
    pair.receive('a', pair.send('b', 'ACCEPT'))
    expect(theirRatchetKey(pair.states.a)).toEqual(sent)
  })

  it('refuses to send as initiator before the first message came', () => {
    const pair = new Pair()
    expect(() => pair.send('a', 'too early')).toThrow(expect.objectContaining({ code: 'RATCHET_NOT_READY' }))
  })

  it('gives a new ratchet key and unlinkable headers in every turn', () => {
    const pair = new Pair()
    const keys = new Set<string>()
    for (let n = 0; n < 4; n++) {
      const b = pair.send('b', 'ping')
      keys.add(String(ownRatchetKey(pair.states.b)))
      pair.receive('a', b)
      const a = pair.send('a', 'pong')
      keys.add(String(ownRatchetKey(pair.states.a)))
      pair.receive('b', a)
    }
    expect(keys.size).toBe(8)
  })

  it('refuses a message twice', () => {
    const pair = new Pair()
    const first = pair.send('b', 'one')
    pair.receive('a', first)
    assertRefused(pair, 'a', first, 'RATCHET_DUPLICATE')
  })

  it('refuses a late message twice, after its chain has ended', () => {
    const pair = new Pair()
    const late = pair.send('b', 'late')
    const later = pair.send('b', 'later still')
    pair.receive('a', pair.send('b', 'in time'))
    pair.receive('b', pair.send('a', 'answer'))
    assertRoundTrip(pair)
    expect(pair.receive('a', late)).toBe('late')
    assertRefused(pair, 'a', late, 'RATCHET_DUPLICATE')
    expect(pair.receive('a', later)).toBe('later still')
    assertRefused(pair, 'a', late, 'DECRYPTION_FAILED')
  })

  it('refuses a message of another session and one sent back to its sender', () => {
    const pair = new Pair()
    const other = makeSession({ random: seededRandom('another session'), now: START })
    assertRefused(pair, 'a', ratchetEncrypt(other.b, text('hello'), AD, pair).message, 'DECRYPTION_FAILED')
    assertRefused(pair, 'b', pair.send('b', 'mine'), 'DECRYPTION_FAILED')
  })

  it('refuses other associated data', () => {
    const pair = new Pair()
    assertRefused(pair, 'a', pair.send('b', 'hello'), 'DECRYPTION_FAILED', text('another session'))
  })

  it('refuses a frame that is cut short, empty, or claims another header length', () => {
    const pair = new Pair()
    const message = pair.send('b', '')
    for (const length of [0, 1, 2, 25, 26, 57, message.length - 1]) {
      assertRefused(pair, 'a', message.subarray(0, length), 'MALFORMED')
    }
    const lying = message.slice()
    lying[1] = (lying[1] ?? 0) ^ 1
    assertRefused(pair, 'a', lying, 'MALFORMED')
  })

  it('goes on from an old state when the new one was never stored', () => {
    const pair = new Pair()
    assertRoundTrip(pair)
    const message = pair.send('b', 'again')
    const before = pair.states.a
    pair.receive('a', message)
    pair.states.a = before
    expect(pair.receive('a', message)).toBe('again')
  })
})

describe('the KEM step', () => {
  const PLAIN = 2 + 24 + 57 + 16
  const WITH_STEP = PLAIN + 1088 + 1184

  it('stands in every message of the first chain, then waits until it is due', () => {
    const pair = new Pair()
    expect(pair.send('b', '')).toHaveLength(WITH_STEP)
    const second = pair.send('b', '')
    expect(second).toHaveLength(WITH_STEP)
    pair.receive('a', second)
    expect(pair.send('a', '')).toHaveLength(PLAIN)
  })

  it('is refused to be left out of the first chain', () => {
    const pair = new Pair()
    const silent = { ...pair.states.b }
    if (silent.turn.kind !== 'sending') throw new Error('B begins with a sending chain')
    const chain = { ...silent.turn.chain, kemStep: undefined }
    pair.states.b = { ...silent, turn: { ...silent.turn, chain } }
    assertRefused(pair, 'a', pair.send('b', 'no KEM'), 'MALFORMED')
  })

  it('is made by the token holder at a turn after 50 messages, and the token changes hands', () => {
    const pair = new Pair()
    const lengths: { from: 'a' | 'b'; length: number }[] = []
    for (let n = 0; n < 3 * KEM_STEP_MESSAGES; n++) {
      const [from, to] = n % 2 === 0 ? (['b', 'a'] as const) : (['a', 'b'] as const)
      const message = pair.send(from, '')
      lengths.push({ from, length: message.length })
      pair.receive(to, message)
    }
    const steps = lengths.flatMap(({ length }, at) => (length === WITH_STEP ? [at] : []))
    expect(steps).toEqual([0, 51, 102])
    expect(steps.map((at) => lengths[at]?.from)).toEqual(['b', 'a', 'b'])
  })

  it('is made after ten minutes, not a millisecond earlier', () => {
    for (const [elapsed, length] of [
      [KEM_STEP_SECONDS * 1000 - 1, PLAIN],
      [KEM_STEP_SECONDS * 1000, WITH_STEP],
    ] as const) {
      const pair = new Pair()
      pair.receive('a', pair.send('b', 'ACCEPT'))
      pair.now += elapsed
      const message = pair.send('a', '')
      expect(message).toHaveLength(length)
      expect(pair.receive('b', message)).toBe('')
    }
  })

  it('changes the keys: a peer that missed the secret cannot follow', () => {
    const pair = new Pair()
    const message = pair.send('b', 'ACCEPT')
    const other = kemKeyPair(pair.random(64))
    pair.states.a = { ...pair.states.a, kemTurn: { kind: 'theirs', ownSecretKey: other.secretKey } }
    assertRefused(pair, 'a', message, 'DECRYPTION_FAILED')
  })

  it('is refused out of turn', () => {
    const pair = new Pair()
    assertRoundTrip(pair)
    const { b } = pair.states
    const stranger = kemKeyPair(pair.random(64))
    pair.states.b = {
      ...b,
      kemTurn: { kind: 'ours', theirKey: stranger.publicKey },
      kemMessages: KEM_STEP_MESSAGES,
    }
    assertRefused(pair, 'a', pair.send('b', 'not mine to make'), 'MALFORMED')
  })
})

describe('limits of the ratchet', () => {
  it('takes a message 2,000 ahead and refuses one 2,001 ahead', () => {
    const pair = new Pair()
    pair.receive('a', pair.send('b', 'first'))
    let ahead: Uint8Array = new Uint8Array()
    for (let n = 0; n <= 2000; n++) ahead = pair.send('b', `${n}`)
    const tooFar = pair.send('b', 'too far')
    assertRefused(pair, 'a', tooFar, 'RATCHET_GAP')
    expect(pair.receive('a', ahead)).toBe('2000')
    expect(pair.receive('a', tooFar)).toBe('too far')
  })

  it('refuses a new chain when more than 2,000 messages of the old one are missing', () => {
    const pair = new Pair()
    pair.receive('a', pair.send('b', 'first'))
    for (let n = 0; n < 2001; n++) pair.send('b', 'lost')
    pair.receive('b', pair.send('a', 'turn'))
    assertRefused(pair, 'a', pair.send('b', 'new chain'), 'RATCHET_GAP')
  })

  it('keeps 2,000 skipped keys and drops the oldest for the 2,001st', () => {
    const pair = new Pair()
    // In two parts, as no single message may be so far ahead.
    const missing = Array.from({ length: MAX_SKIPPED_KEYS }, (_, n) => pair.send('b', `${n}`))
    pair.receive('a', pair.send('b', 'middle'))
    missing.push(pair.send('b', '2000'))
    pair.receive('a', pair.send('b', 'last'))
    const [oldest, second] = missing
    if (oldest === undefined || second === undefined) throw new Error('no messages')
    assertRefused(pair, 'a', oldest, 'RATCHET_DUPLICATE')
    expect(pair.receive('a', second)).toBe('1')
    expect(pair.receive('a', last(missing))).toBe('2000')
  })

  it('counts skipped keys over all chains', () => {
    const pair = new Pair()
    const old = Array.from({ length: 3 }, (_, n) => pair.send('b', `old ${n}`))
    pair.receive('a', pair.send('b', 'turn'))
    pair.receive('b', pair.send('a', 'turn'))
    for (let n = 0; n < MAX_SKIPPED_KEYS - 1; n++) pair.send('b', 'lost')
    pair.receive('a', pair.send('b', 'last'))
    assertRefused(pair, 'a', old[0] ?? AD, 'RATCHET_DUPLICATE')
    assertRefused(pair, 'a', old[1] ?? AD, 'RATCHET_DUPLICATE')
    expect(pair.receive('a', old[2] ?? AD)).toBe('old 2')
  })

  it('keeps skipped keys of five chains and drops the oldest chain for the sixth', () => {
    const pair = new Pair()
    const missing: Uint8Array[] = []
    for (let n = 0; n < 6; n++) {
      missing.push(pair.send('b', `missing ${n}`))
      assertRoundTrip(pair)
    }
    assertRefused(pair, 'a', missing[0] ?? AD, 'DECRYPTION_FAILED')
    for (let n = 1; n < 6; n++) expect(pair.receive('a', missing[n] ?? AD)).toBe(`missing ${n}`)
    expect(pair.states.a.skipped).toEqual([])
  })

  function atCounter(state: RatchetState, counter: number): RatchetState {
    if (state.turn.kind === 'sending') {
      return { ...state, turn: { ...state.turn, chain: { ...state.turn.chain, counter } } }
    }
    if (state.receiving === undefined) throw new Error('no chain to move')
    return { ...state, receiving: { ...state.receiving, counter } }
  }

  it('ends a chain after 2^31 - 1 messages, on both sides', () => {
    const pair = new Pair()
    pair.receive('a', pair.send('b', 'first'))
    pair.states.b = atCounter(pair.states.b, MAX_CHAIN_MESSAGES - 1)
    pair.states.a = atCounter(pair.states.a, MAX_CHAIN_MESSAGES - 1)
    const message = pair.send('b', 'the last')
    expect(pair.receive('a', message)).toBe('the last')
    assertRefused(pair, 'a', message, 'RATCHET_DUPLICATE')
    const before = pair.states.b
    expect(() => pair.send('b', 'one more')).toThrow(expect.objectContaining({ code: 'RATCHET_EXHAUSTED' }))
    expect(pair.states.b).toBe(before)
    expect(decodeRatchetState(encodeRatchetState(pair.states.a))).toEqual(pair.states.a)
    pair.receive('b', pair.send('a', 'a new turn'))
    expect(pair.receive('a', pair.send('b', 'and it goes on'))).toBe('and it goes on')
  })

  it('refuses a header whose ratchet key forces a known secret', () => {
    const pair = new Pair()
    const { b } = pair.states
    if (b.turn.kind !== 'sending') throw new Error('B begins with a sending chain')
    const ownRatchet = { ...b.turn.ownRatchet, publicKey: new Uint8Array(32) }
    pair.states.b = { ...b, turn: { ...b.turn, ownRatchet } }
    assertRefused(pair, 'a', pair.send('b', 'weak'), 'WEAK_SHARED_SECRET')
  })
})

describe('properties of the ratchet', () => {
  /** A schedule: who sends, and which of the messages under way arrives, is lost, or comes twice. */
  const schedule = fc.array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ do: fc.constant('send' as const), from: fc.constantFrom('a', 'b') }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constantFrom('deliver' as const, 'deliver' as const, 'repeat' as const, 'lose' as const),
          which: fc.nat(),
        }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.nat(400) }) },
    ),
    { minLength: 1, maxLength: 120 },
  )

  it('decrypts what arrives, in any order, exactly once', () => {
    fc.assert(
      fc.property(schedule, fc.boolean(), (steps, storeEachTime) => {
        const pair = new Pair()
        pair.receive('a', pair.send('b', 'ACCEPT'))
        const underWay: { to: 'a' | 'b'; body: string; message: Uint8Array }[] = []
        const arrived: { to: 'a' | 'b'; message: Uint8Array }[] = []
        let sent = 0
        for (const step of steps) {
          if (step.do === 'send') {
            const body = `message ${sent++}`
            const message = pair.send(step.from, body)
            underWay.push({ to: step.from === 'a' ? 'b' : 'a', body, message })
          } else if (step.do === 'wait') pair.now += step.seconds * 1000
          else if (step.do === 'repeat') {
            const again = arrived[step.which % Math.max(arrived.length, 1)]
            if (again === undefined) continue
            assertRefused(pair, again.to, again.message, ['RATCHET_DUPLICATE', 'DECRYPTION_FAILED'])
          } else {
            const [next] = underWay.splice(step.which % Math.max(underWay.length, 1), 1)
            if (next === undefined || step.do === 'lose') continue
            // The sixth chain with gaps drops the first by design; schedules here stay below that cap or skip it.
            if (pair.states[next.to].skipped.length >= 5) continue
            assert.equal(pair.receive(next.to, next.message), next.body)
            arrived.push(next)
          }
          if (storeEachTime) {
            pair.states.a = decodeRatchetState(encodeRatchetState(pair.states.a))
            pair.states.b = decodeRatchetState(encodeRatchetState(pair.states.b))
          }
        }
      }),
      { numRuns: 150 },
    )
  })

  it('refuses a message with any bit flipped and leaves the state as it was', () => {
    const pair = new Pair()
    assertRoundTrip(pair)
    const cases = [
      { to: 'a' as const, message: pair.send('b', 'next in a new chain') },
      { to: 'a' as const, message: pair.send('b', 'one ahead') },
    ]
    for (const { to, message } of cases) {
      const before = encodeRatchetState(pair.states[to])
      for (let bit = 0; bit < message.length * 8; bit++) {
        expect(() => pair.receive(to, flipBit(message, bit))).toThrow(
          expect.objectContaining({ code: expect.stringMatching(/^(MALFORMED|DECRYPTION_FAILED)$/) }),
        )
        expect(Buffer.compare(encodeRatchetState(pair.states[to]), before)).toBe(0)
      }
      expect(pair.receive(to, message)).not.toBe('')
    }
  })

  it('refuses a message with a KEM step with any bit flipped', () => {
    const pair = new Pair()
    const message = pair.send('b', 'ACCEPT')
    fc.assert(
      fc.property(fc.nat(message.length * 8 - 1), (bit) => {
        assertRefused(pair, 'a', flipBit(message, bit), bit < 16 ? 'MALFORMED' : 'DECRYPTION_FAILED')
      }),
      { numRuns: 300 },
    )
    expect(pair.receive('a', message)).toBe('ACCEPT')
  })
})

describe('the encoded state', () => {
  function states(): RatchetState[] {
    const pair = new Pair()
    const kept = [pair.states.a, pair.states.b]
    pair.send('b', 'lost')
    pair.receive('a', pair.send('b', 'found'))
    kept.push(pair.states.a)
    pair.receive('b', pair.send('a', 'answer'))
    kept.push(pair.states.a, pair.states.b)
    return kept
  }

  it('comes back as it was, for every turn', () => {
    for (const state of states()) expect(decodeRatchetState(encodeRatchetState(state))).toEqual(state)
    expect(new Set(states().map((state) => state.turn.kind)).size).toBe(3)
  })

  it('is refused when cut short at any place, or with bytes after its end', () => {
    for (const state of states()) {
      const bytes = encodeRatchetState(state)
      for (let length = 0; length < bytes.length; length++) {
        expect(() => decodeRatchetState(bytes.subarray(0, length))).toThrow(
          expect.objectContaining({ code: 'MALFORMED' }),
        )
      }
      expect(() => decodeRatchetState(new Uint8Array([...bytes, 0]))).toThrow(
        expect.objectContaining({ code: 'MALFORMED' }),
      )
    }
  })

  it('is read strictly: whatever decodes encodes to the same bytes', () => {
    const all = states().map(encodeRatchetState)
    fc.assert(
      fc.property(fc.constantFrom(...all), fc.nat(), (bytes, at) => {
        const changed = flipBit(bytes, at % (bytes.length * 8))
        let decoded: RatchetState
        try {
          decoded = decodeRatchetState(changed)
        } catch (error) {
          assert(isAgentMeshError(error, 'MALFORMED'))
          return
        }
        expect(encodeRatchetState(decoded)).toEqual(changed)
      }),
      { numRuns: 500 },
    )
  })

  it('does not share memory with the bytes it was read from', () => {
    const pair = new Pair()
    const bytes = encodeRatchetState(pair.states.b)
    pair.states.b = decodeRatchetState(bytes)
    bytes.fill(0)
    expect(pair.receive('a', pair.send('b', 'still there'))).toBe('still there')
  })

  it('begins as the initiator with nothing received', () => {
    const random = seededRandom('initiator')
    const { keys } = makeSession({ random, now: START })
    const state = ratchetInitiate(keys, x25519KeyPair(random(32)), kemKeyPair(random(64)))
    expect(state.turn.kind).toBe('waiting')
    expect(state.receiving).toBeUndefined()
  })
})
