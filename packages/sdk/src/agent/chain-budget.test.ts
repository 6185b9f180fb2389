import { beforeEach, describe, expect, it, vi } from 'vitest'
import { MAX_FORWARD } from '../crypto/index.ts'
import { consumePacket, createMessage } from '../messages/index.ts'
import { makeEnds, environment, request, type End } from '../messages/test-support.ts'
import { junkPacket } from '../messages/test-support-junk.ts'
import { isAgentMeshError, toHex, type Amid } from '../wire/index.ts'
import { ChainBudget, NEW_CHAIN_STEPS, STEPS_OF_OTHERS, STEPS_PER_PEER } from './chain-budget.ts'
import type { Core } from './core.ts'

/** Keys derived of chains. */
const steps = vi.hoisted(() => ({ count: 0 }))

vi.mock('../crypto/primitives.ts', async (original) => {
  const primitives = await original<Record<string, unknown>>()
  const hmac = primitives['hmacSha256'] as (key: Uint8Array, input: Uint8Array) => Uint8Array
  const hmacSha256: typeof hmac = (key, input) => {
    // 0x02 makes the next chain key.
    if (input[0] === 0x02) steps.count++
    return hmac(key, input)
  }
  return { ...primitives, hmacSha256 }
})

let now: number
let chosen: Set<Amid>
let budget: ChainBudget
let alice: End
let bob: End

/** Alice has said something, so that she has a chain. */
function ends(): { alice: End; bob: End } {
  const made = makeEnds({ type: 'stream' })
  const { session, packet } = createMessage(made.alice.session, request(), made.alice.identity, environment())
  const heard = consumePacket(made.bob.session, packet, 'message', environment())
  return { alice: { ...made.alice, session }, bob: { ...made.bob, session: heard.session } }
}

beforeEach(() => {
  ;({ alice, bob } = ends())
  now = environment().now
  chosen = new Set()
  const core = {
    now: () => now,
    policy: { current: () => ({ allowlist: [] }) },
    store: { tables: { contacts: { get: (peer: Amid) => (chosen.has(peer) ? {} : undefined) } } },
  }
  budget = new ChainBudget(core as unknown as Core)
  steps.count = 0
})

/** As the receiver does, for a frame of Alice's session that says it comes from `from`. */
function read(packet: Uint8Array, from = alice.identity.amid, type: 'message' | 'close' = 'message'): string {
  const place = { from, about: bob.session.id, key: `${type} ${from} ${toHex(packet)}` }
  try {
    const { session } = budget.meter(place, (mayDerive) =>
      consumePacket(bob.session, packet, type, { ...environment(now), mayDerive }),
    )
    bob = { ...bob, session }
    return 'read'
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    return error.code
  }
}

function say(): Uint8Array {
  const made = createMessage(alice.session, request(), alice.identity, environment(now))
  alice = { ...alice, session: made.session }
  return made.packet
}

const junk = (ahead = MAX_FORWARD) => junkPacket(alice.session, ahead)
const peer = (n: number) => `peer ${n}` as Amid

describe('frames far ahead whose bodies do not open', () => {
  it('cost their peer’s budget, however many come, and then nothing', () => {
    const codes = Array.from({ length: 200 }, () => read(junk()))
    const opened = STEPS_PER_PEER / MAX_FORWARD
    expect(codes.slice(0, opened)).toEqual(Array(opened).fill('DECRYPTION_FAILED'))
    expect(new Set(codes.slice(opened))).toEqual(new Set(['RATCHET_BUDGET']))
    expect(steps.count).toBe(STEPS_PER_PEER)
    expect(budget.isOverdrawn(alice.identity.amid, bob.session.id)).toBe(true)
    // Not even a good one, nor when the minute is over.
    now += 60_000
    expect(read(say())).toBe('RATCHET_BUDGET')
    expect(steps.count).toBe(STEPS_PER_PEER + 1) // our own, in `say`
  })

  it('are derived for once each: the same one again is refused for nothing, under its own type alone', () => {
    const frame = junk()
    expect(read(frame)).toBe('DECRYPTION_FAILED')
    expect(steps.count).toBe(MAX_FORWARD)
    for (let n = 0; n < 20; n++) expect(read(frame)).toBe('DECRYPTION_FAILED')
    expect(steps.count).toBe(MAX_FORWARD)
  })

  it('do not keep away the message they were made from', () => {
    say()
    const honest = say()
    const changed = Uint8Array.from(honest)
    changed[changed.length - 1]! ^= 1
    expect(read(changed)).toBe('DECRYPTION_FAILED')
    expect(read(honest, alice.identity.amid, 'close')).toBe('DECRYPTION_FAILED')
    expect(read(honest)).toBe('read')
  })

  it('of one peer take nothing from another', () => {
    for (let n = 0; n < 200; n++) read(junk(), peer(1))
    expect(read(junk(), peer(2))).toBe('DECRYPTION_FAILED')
    say()
    expect(read(say())).toBe('read')
  })

  it('of many peers cost what all strangers have together; a peer that was chosen has its own, and nobody’s session ends', () => {
    for (let n = 0; n < 100; n++) read(junk(), peer(n))
    for (let n = 0; n < 100; n++) read(junk(), peer(n))
    expect(steps.count).toBe(STEPS_OF_OTHERS)
    say()
    const late = say()
    const before = steps.count
    expect(read(late)).toBe('RATCHET_BUDGET')
    expect(steps.count).toBe(before)
    expect(budget.isOverdrawn(alice.identity.amid, bob.session.id)).toBe(false)
    chosen.add(alice.identity.amid)
    expect(read(late)).toBe('read')
  })
})

describe('an honest peer', () => {
  it('spends nothing on messages in order, though strangers spent all there was', () => {
    for (let n = 0; n < 200; n++) read(junk(), peer(n))
    for (let n = 0; n < 300; n++) expect(read(say())).toBe('read')
  })

  it('spends nothing on new chains', () => {
    const turns = (3 * STEPS_PER_PEER) / NEW_CHAIN_STEPS
    for (let n = 0; n < turns; n++) {
      const answer = createMessage(bob.session, request(), bob.identity, environment(now))
      bob = { ...bob, session: answer.session }
      const heard = consumePacket(alice.session, answer.packet, 'message', environment(now))
      alice = { ...alice, session: heard.session }
      expect(read(say())).toBe('read')
    }
  })
})
