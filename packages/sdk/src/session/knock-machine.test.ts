import { describe, expect, it } from 'vitest'
import { evaluateKnock } from './decision.ts'
import { createAccept, createReject } from './knock-answer.ts'
import { stepInitiator, stepResponder, type InitiatorState, type ResponderState } from './knock-machine.ts'
import { defaultPolicy } from './policy.ts'
import { newPrecheckState, precheckKnock } from './precheck.ts'
import { NOW } from '../identity/test-support.ts'
import { acceptTerms, CONVERSATION, environment, flipped, FLIGHTS, TestAgent } from './test-support.ts'

const alice = new TestAgent('alice')
const bob = new TestAgent('bob')
const idle: InitiatorState = { name: 'idle' }

function request(bundle = bob.verifiedBundle()) {
  return {
    type: 'bundle',
    request: {
      identity: alice.identity,
      exchangeKey: alice.exchange,
      bundle,
      intent: FLIGHTS,
      sessionRequest: CONVERSATION,
    },
  } as const
}

/** Alice up to `knocking`, and the packet she sent. */
function knocking() {
  const lookingUp = stepInitiator(idle, { type: 'knock', peer: bob.identity.amid }, environment('a'))
  expect(lookingUp.effects).toEqual([{ type: 'fetch-bundle', peer: bob.identity.amid }])
  const { state, effects } = stepInitiator(lookingUp.state, request(), environment('a'))
  const [send, wake] = effects
  if (state.name !== 'knocking' || send?.type !== 'send-knock') throw new Error('no KNOCK was sent')
  expect(wake).toEqual({ type: 'wake-at', at: state.pending.expiresAt + 1 })
  return { state, packet: send.packet }
}

/** Bob up to `deciding`. */
function deciding(packet: Uint8Array) {
  const precheck = precheckKnock(
    { from: alice.identity.amid, isKnown: true },
    defaultPolicy(),
    newPrecheckState(),
    NOW,
  )
  const opening = stepResponder({ name: 'received' }, { type: 'prechecked', precheck })
  expect(opening.effects).toEqual([{ type: 'open' }])
  const opened = bob.open(packet, alice)
  const step = stepResponder(opening.state, { type: 'opened', opened })
  expect(step.effects).toEqual([{ type: 'commit-nonce', opened }])
  const claimed = stepResponder(step.state, { type: 'claimed' })
  expect(claimed.effects).toEqual([{ type: 'evaluate', opened, precheck }])
  return { claiming: step.state, state: claimed.state, opened, precheck }
}

describe('the KNOCK machines', () => {
  it('lead from idle to an open session on both sides', () => {
    const knock = knocking()
    const { state, opened, precheck } = deciding(knock.packet)
    const decision = evaluateKnock(opened, defaultPolicy(), {
      now: NOW,
      precheck,
      activeSessions: 0,
      paused: false,
      presence: 'online',
      arrivedOffline: false,
    })
    const decided = stepResponder(state, { type: 'decided', decision })
    expect(decided.state.name).toBe('accepted')
    expect(decided.effects).toEqual([{ type: 'accept', opened }])
    const { packet, session } = createAccept(opened, acceptTerms(opened, bob), environment('b'))
    const answer = stepInitiator(
      knock.state,
      { type: 'answer', relayType: 'accept', packet },
      environment('a'),
    )
    expect(answer.state).toMatchObject({ name: 'open', session: { id: session.id } })
  })

  it('lead to rejected when policy refuses', () => {
    const knock = knocking()
    const { state, opened } = deciding(knock.packet)
    const decision = { accepted: false, reason: 'paused', trace: [] } as const
    const decided = stepResponder(state, { type: 'decided', decision: { ...decision, trace: [] } })
    expect(decided.state.name).toBe('rejected')
    const packet = createReject(
      opened,
      { identity: bob.identity, reason: 'paused', humanReadable: '', retryAfterSeconds: null },
      environment('b'),
    )
    const answer = stepInitiator(
      knock.state,
      { type: 'answer', relayType: 'reject', packet },
      environment('a'),
    )
    expect(answer.state).toMatchObject({ name: 'rejected', reject: { reason: 'paused' } })
  })

  it('wait on after a forged answer, and report it', () => {
    const { state, packet } = knocking()
    const { opened } = deciding(packet)
    const genuine = createAccept(opened, acceptTerms(opened, bob), environment('b')).packet
    const event = { type: 'answer', relayType: 'accept' } as const
    const forged = stepInitiator(state, { ...event, packet: flipped(genuine, 500) }, environment('a'))
    expect(forged).toEqual({ state, effects: [{ type: 'report', code: 'DECRYPTION_FAILED' }] })
    const answered = stepInitiator(forged.state, { ...event, packet: genuine }, environment('a'))
    expect(answered.state.name).toBe('open')
  })

  it('do not read a replayed ACCEPT a second time', () => {
    const { state, packet } = knocking()
    const { opened } = deciding(packet)
    const accept = createAccept(opened, acceptTerms(opened, bob), environment('b')).packet
    const event = { type: 'answer', relayType: 'accept', packet: accept } as const
    const open = stepInitiator(state, event, environment('a')).state
    expect(stepInitiator(open, event, environment('a'))).toEqual({
      state: open,
      effects: [{ type: 'report', code: 'ANSWER_MISMATCH' }],
    })
  })

  it('answer a KNOCK once', () => {
    const { state, opened } = deciding(knocking().packet)
    const decision = { accepted: true, trace: [] }
    const accepted = stepResponder(state, { type: 'decided', decision }).state
    for (const event of [
      { type: 'decided', decision },
      { type: 'opened', opened },
    ] as const) {
      expect(stepResponder(accepted, event)).toEqual({ state: accepted, effects: [] })
    }
  })

  it('expire when nobody answered, and not before', () => {
    const { state } = knocking()
    const at = (now: number) => stepInitiator(state, { type: 'tick' }, environment('a', now)).state.name
    expect(at(state.pending.expiresAt)).toBe('knocking')
    expect(at(state.pending.expiresAt + 1)).toBe('expired')
  })

  it('fail when the lookup does, or brings somebody else’s bundle', () => {
    const { state } = stepInitiator(idle, { type: 'knock', peer: bob.identity.amid }, environment('a'))
    const lost = stepInitiator(state, { type: 'lookup-failed', code: 'PREKEY_UNKNOWN' }, environment('a'))
    expect(lost.state).toEqual({ name: 'failed', code: 'PREKEY_UNKNOWN' })
    const other = new TestAgent('mallory').verifiedBundle()
    expect(stepInitiator(state, request(other), environment('a')).state).toEqual({
      name: 'failed',
      code: 'AMID_MISMATCH',
    })
  })

  it('drop in silence whom a precheck turned away beyond the budget, and open for the rest', () => {
    const policy = { ...defaultPolicy(), blocklist: [alice.identity.amid] }
    const checks = newPrecheckState()
    const received: ResponderState = { name: 'received' }
    const next = () =>
      stepResponder(received, {
        type: 'prechecked',
        precheck: precheckKnock({ from: alice.identity.amid, isKnown: true }, policy, checks, NOW),
      }).state.name
    expect([next(), next()]).toEqual(['opening', 'dropped'])
  })

  it('drop a KNOCK whose nonce was known, and decide nothing about it', () => {
    const { claiming } = deciding(knocking().packet)
    expect(stepResponder(claiming, { type: 'repeated' })).toEqual({
      state: { name: 'dropped', reason: 'repeated' },
      effects: [],
    })
  })
})
