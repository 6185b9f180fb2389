import { describe, expect, it } from 'vitest'
import { HOLD_FALL_MS, HOLD_RISE_MS, RAPID_CHANGE, RAPID_WINDOW_MS } from './constants.ts'
import { decide, release, type Computed, type ScoreState } from './review.ts'

const NOW = Date.UTC(2026, 5, 1)
const HOUR = 3_600_000
const state = (fields: Partial<ScoreState> = {}): ScoreState => ({
  published: 0.5,
  tier: 2,
  anchor: 0.5,
  anchorAt: NOW,
  hold: undefined,
  ...fields,
})
const computed = (score: number, fields: Partial<Computed> = {}): Computed => ({
  score,
  tier: 2,
  pooledShare: 0,
  ...fields,
})

describe('rapid change', () => {
  it('publishes a small change at once', () => {
    const { state: after, cause } = decide(state(), computed(0.5 + RAPID_CHANGE), NOW + HOUR)
    expect(after).toEqual(state({ published: 0.55 }))
    expect(cause).toBe('evaluated')
  })

  it('holds a large one, says why, and keeps what is published', () => {
    const { state: up } = decide(state(), computed(0.58, { pooledShare: 0.9 }), NOW + HOUR)
    expect(up.published).toBe(0.5)
    expect(up.hold).toEqual({
      proposed: 0.58,
      reasons: ['rapid-rise', 'mostly-unsupported'],
      since: NOW + HOUR,
      until: NOW + HOUR + HOLD_RISE_MS,
    })
    const { state: down } = decide(state(), computed(0.4), NOW)
    expect(down.hold?.reasons).toEqual(['rapid-fall'])
    expect(down.hold?.until).toBe(NOW + HOLD_FALL_MS)
  })

  it('holds many small steps within the window like one large step', () => {
    let current = state()
    for (const score of [0.52, 0.54]) current = decide(current, computed(score), NOW + HOUR).state
    const after = decide(current, computed(0.56), NOW + 2 * HOUR).state
    expect(after.published).toBe(0.54)
    expect(after.hold?.proposed).toBe(0.56)
  })

  it('lets the same steps pass over several days', () => {
    let current = state()
    for (const [day, score] of [0.54, 0.58, 0.62].entries()) {
      current = decide(current, computed(score), NOW + day * RAPID_WINDOW_MS).state
      expect(current.published).toBe(score)
    }
  })

  it('publishes a held change when its time has passed, not before, and not because the window moved on', () => {
    const held = decide(state(), computed(0.6), NOW).state
    const waiting = decide(held, computed(0.61), NOW + HOLD_RISE_MS - 1)
    expect(waiting.state.published).toBe(0.5)
    expect(waiting.state.hold).toMatchObject({ proposed: 0.61, since: NOW, until: NOW + HOLD_RISE_MS })
    const passed = decide(waiting.state, computed(0.61), NOW + HOLD_RISE_MS)
    expect(passed).toEqual(release(0.61, 2, NOW + HOLD_RISE_MS, 'time-passed'))
  })

  it('forgets a hold when the score comes back', () => {
    const held = decide(state(), computed(0.6), NOW).state
    expect(decide(held, computed(0.51), NOW + HOUR).state).toMatchObject({ published: 0.51, hold: undefined })
  })

  it('begins a new hold when a rise becomes a fall', () => {
    const held = decide(state(), computed(0.6), NOW).state
    const fallen = decide(held, computed(0.3), NOW + HOLD_RISE_MS).state
    expect(fallen.published).toBe(0.5)
    expect(fallen.hold).toMatchObject({ reasons: ['rapid-fall'], since: NOW + HOLD_RISE_MS })
  })

  it('takes a change of tier for no rapid change', () => {
    const after = decide(state(), computed(0.6, { tier: 1 }), NOW + HOUR).state
    expect(after).toEqual(state({ published: 0.6, tier: 1, anchor: 0.6 }))
    const back = decide(after, computed(0.5), NOW + 2 * HOUR).state
    expect(back).toEqual(state())
  })

  it('moves the published score with the tier even while another change is held', () => {
    const held = decide(state(), computed(0.6), NOW).state
    const after = decide(held, computed(0.7, { tier: 1 }), NOW + HOUR).state
    expect(after.published).toBe(0.6)
    expect(after.hold?.since).toBe(NOW)
  })
})
