/**
 * What a refusal costs: calls of the primitives, counted, so that "in time that does not grow" needs no clock. Whoever
 * makes such a frame holds the session's keys, so each limit has to hold against the peer itself.
 */
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { isAgentMeshError } from '../wire/errors.ts'
import { MAX_CHAIN_MESSAGES, MAX_FORWARD, MAX_RECEIVING_CHAINS, MAX_SKIPPED_KEYS } from './constants.ts'
import { AEAD_NONCE_BYTES, aeadEncrypt } from './primitives.ts'
import { ratchetDecrypt, ratchetEncrypt, type RatchetEnvironment } from './ratchet.ts'
import { encodeFrame, encodeHeader, type RatchetHeader } from './ratchet-header.ts'
import { encodeRatchetState, type RatchetState } from './ratchet-state.ts'
import { makeSession, seededRandom } from './test-support.ts'

const calls = vi.hoisted(() => new Map<string, number>())

vi.mock('./primitives.ts', async (original) => {
  const primitives = await original<typeof import('./primitives.ts')>()
  const counted = ['hmacSha256', 'hkdfSha256', 'x25519', 'kemDecapsulate', 'aeadDecrypt'] as const
  const wrapped = counted.map((name) => {
    const primitive = primitives[name] as (...args: unknown[]) => unknown
    const count = (...args: unknown[]): unknown => {
      calls.set(name, (calls.get(name) ?? 0) + 1)
      return primitive(...args)
    }
    return [name, count]
  })
  return { ...primitives, ...Object.fromEntries(wrapped) }
})

const NO_DATA = new Uint8Array(0)
/** The current chain's header key, one for each older chain, and the next chain's. */
const MAX_HEADER_TRIES = 1 + MAX_RECEIVING_CHAINS + 1

const environment: RatchetEnvironment = { random: seededRandom('ratchet costs'), now: 1_700_000_000_000 }
let alice: RatchetState
let bob: RatchetState

beforeEach(() => {
  ;({ a: alice, b: bob } = makeSession(environment))
  alice = receive(alice, send())
})

function send(): Uint8Array {
  const { state, message } = ratchetEncrypt(bob, NO_DATA, NO_DATA, environment)
  bob = state
  return message
}

function receive(state: RatchetState, message: Uint8Array): RatchetState {
  return ratchetDecrypt(state, message, NO_DATA, environment).state
}

/** Alice says something, so that Bob's next message begins a chain. */
function turn(): void {
  const { state, message } = ratchetEncrypt(alice, NO_DATA, NO_DATA, environment)
  alice = state
  bob = receive(bob, message)
}

/** A frame of Bob's chain with counters of his choice and a body that nobody can open. */
function forged(changes: Partial<RatchetHeader>): Uint8Array {
  if (bob.turn.kind !== 'sending') throw new Error('Bob has no chain')
  const { ownRatchet, chain } = bob.turn
  const nonce = environment.random(AEAD_NONCE_BYTES)
  const header = encodeHeader({
    ratchetKey: ownRatchet.publicKey,
    previousCounter: bob.previousCounter,
    counter: chain.counter,
    kemStep: chain.kemStep,
    ...changes,
  })
  const sealedHeader = aeadEncrypt(chain.headerKey, nonce, header, NO_DATA)
  return encodeFrame({ nonce, sealedHeader, ciphertext: new Uint8Array(64) })
}

/** The code, and what it took to come to it; the state must be as it was. */
function refusal(message: Uint8Array, reader = environment): { code: string; cost: Record<string, number> } {
  const before = encodeRatchetState(alice)
  calls.clear()
  try {
    ratchetDecrypt(alice, message, NO_DATA, reader)
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    const cost = Object.fromEntries(calls)
    expect(encodeRatchetState(alice)).toEqual(before)
    return { code: error.code, cost }
  }
  throw new Error('it was taken')
}

const TOO_FAR = [MAX_FORWARD + 1, 10 * MAX_FORWARD, MAX_CHAIN_MESSAGES - 2]

describe('a frame beyond a limit', () => {
  it.each(TOO_FAR)('%i ahead in its chain costs one look at its header', (gap) => {
    const next = alice.receiving?.counter ?? 0
    expect(refusal(forged({ counter: next + gap }))).toEqual({
      code: 'RATCHET_GAP',
      cost: { aeadDecrypt: 1 },
    })
  })

  it.each(TOO_FAR)('of a new chain that says %i of the old one are missing costs two', (gap) => {
    turn()
    send()
    const previousCounter = (alice.receiving?.counter ?? 0) + gap
    expect(refusal(forged({ counter: 0, previousCounter }))).toEqual({
      code: 'RATCHET_GAP',
      cost: { aeadDecrypt: 2 },
    })
  })

  it.each(TOO_FAR)('%i ahead in a new chain costs two, whatever it says of the old one', (counter) => {
    turn()
    send()
    expect(refusal(forged({ counter, previousCounter: MAX_FORWARD }))).toEqual({
      code: 'RATCHET_GAP',
      cost: { aeadDecrypt: 2 },
    })
  })

  it.each([MAX_CHAIN_MESSAGES, 2 ** 31, 2 ** 32 - 1])('with the counter %i costs one', (counter) => {
    expect(refusal(forged({ counter }))).toEqual({ code: 'RATCHET_EXHAUSTED', cost: { aeadDecrypt: 1 } })
  })

  it('whose key was dropped costs the same however many are kept', () => {
    const costs = [1, MAX_SKIPPED_KEYS / 2, MAX_SKIPPED_KEYS].map((kept) => {
      const dropped = send()
      // Passed so that the first one, and only it, has no place.
      for (let n = 0; n < MAX_SKIPPED_KEYS; n++) {
        // In two parts, as no single message may be so far ahead.
        if (n === MAX_SKIPPED_KEYS / 2) alice = receive(alice, send())
        send()
      }
      alice = receive(alice, send())
      alice = {
        ...alice,
        skipped: alice.skipped.map((chain) => ({ ...chain, messageKeys: newest(chain.messageKeys, kept) })),
      }
      return refusal(dropped)
    })
    expect(new Set(costs.map((cost) => JSON.stringify(cost))).size).toBe(1)
    expect(costs[0]).toEqual({ code: 'RATCHET_DUPLICATE', cost: { aeadDecrypt: 1 } })
  })

  it('of a chain that was dropped costs one look with each key that is kept, however many chains there were', () => {
    const missing: Uint8Array[] = []
    const costs: unknown[] = []
    for (let chain = 1; chain <= 30; chain++) {
      turn()
      missing.push(send())
      alice = receive(alice, send())
      const dropped = missing.at(-1 - MAX_RECEIVING_CHAINS)
      if (dropped !== undefined) costs.push(refusal(dropped))
    }
    expect(costs).toHaveLength(25)
    for (const cost of costs)
      expect(cost).toEqual({ code: 'DECRYPTION_FAILED', cost: { aeadDecrypt: MAX_HEADER_TRIES } })
  })

  it.each([
    ['ahead in its chain', { counter: 20 }, 1],
    ['in a new chain', { counter: 5, previousCounter: 3 }, 2],
  ] as const)(
    '%s that its reader will not pay for costs its header, and the reader hears the price',
    (_, counters, looks) => {
      if (looks === 2) turn()
      if (looks === 2) send()
      const asked: unknown[] = []
      const mayDerive = (...price: unknown[]): boolean => {
        asked.push(price)
        return false
      }
      const message = forged(counters)
      expect(refusal(message, { ...environment, mayDerive })).toEqual({
        code: 'RATCHET_BUDGET',
        cost: { aeadDecrypt: looks },
      })
      // One message came before: 19 are missing; or two of the old chain and five of the new one.
      expect(asked).toEqual([looks === 1 ? [19, false] : [7, true]])
    },
  )

  it('that is the next of its chain costs nothing that its reader would be asked about', () => {
    const mayDerive = (): boolean => false
    const { plaintext } = ratchetDecrypt(alice, send(), NO_DATA, { ...environment, mayDerive })
    expect(plaintext).toEqual(NO_DATA)
  })

  it('at the limit with a body that does not open costs the limit, and nothing is kept of it', () => {
    const next = alice.receiving?.counter ?? 0
    const { code, cost } = refusal(forged({ counter: next + MAX_FORWARD }))
    expect(code).toBe('DECRYPTION_FAILED')
    // A step each, a key for each that can be kept, and the message's own.
    expect(cost).toEqual({ aeadDecrypt: 2, hmacSha256: MAX_FORWARD + MAX_SKIPPED_KEYS + 1 })
  })
})

function newest(keys: ReadonlyMap<number, Uint8Array>, count: number): Map<number, Uint8Array> {
  return new Map([...keys].slice(-count))
}
