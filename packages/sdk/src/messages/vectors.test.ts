import { describe, expect, it } from 'vitest'
import { verifyBundle } from '../identity/index.ts'
import {
  consumeAnswer,
  consumeReset,
  createAccept,
  createKnock,
  createReject,
  createReset,
  encodeSession,
  openKnock,
  openOptimistic,
  type OpenedKnock,
  type PendingKnock,
  type Session,
} from '../session/index.ts'
import { fromHex, toHex } from '../wire/index.ts'
import { consumeMessage, createMessage } from './message.ts'
import { NOW } from '../identity/test-support.ts'
import { agentOf, type Agent } from './vector-agents.ts'
import { outcome, printVector, vectorFiles } from '../wire/test-support.ts'
import { OTHER, type Party, type SessionVector, type VectorStep, seenOf } from './vector-format.ts'
import { sessionVectors } from './vector-scenarios.ts'

const scenarios = sessionVectors()
const print = (vector: SessionVector) => printVector(vector, Infinity)

const { names, load } = vectorFiles('session', scenarios, print)

/** Hands out the recorded draws, and fails a call that draws another amount than was recorded. */
function replayed<T>(hex: string, call: (random: (length: number) => Uint8Array) => T): T {
  const bytes = fromHex(hex)
  let at = 0
  const result = call((length) => {
    at += length
    return bytes.slice(at - length, at)
  })
  expect(at).toBe(bytes.length)
  return result
}

const noRandom = (): never => {
  throw new Error('Reading draws no randomness')
}

/** Plays a file with nothing but what stands in it. */
class Replay {
  readonly #vector: SessionVector
  readonly #agents: Readonly<Record<Party, Agent>>
  readonly #sessions: Partial<Record<Party, Session>> = {}
  #pending: PendingKnock | undefined
  #opened: OpenedKnock | undefined

  constructor(vector: SessionVector) {
    this.#vector = vector
    this.#agents = { a: agentOf(vector.agents.a), b: agentOf(vector.agents.b) }
  }

  /** What the step gave, to be compared with what the file says. */
  play(step: VectorStep): Partial<VectorStep> {
    const { now } = step
    const { a, b } = this.#agents
    switch (step.do) {
      case 'knock': {
        const { pending, packet } = replayed(step.random, (random) =>
          createKnock(
            {
              identity: a.identity,
              exchangeKey: {
                record: a.vector.exchange_key.record,
                secret: fromHex(a.vector.exchange_key.secret),
              },
              bundle: verifyBundle(this.#vector.bundle, b.identity.amid, NOW),
              intent: step.intent,
              sessionRequest: step.session_request,
              ...(step.optimistic === undefined ? {} : { optimistic: step.optimistic }),
            },
            { random, now },
          ),
        )
        this.#pending = pending
        return { packet: toHex(packet) }
      }
      case 'open': {
        let transcript: string | undefined
        const result = outcome(() => {
          this.#opened = openKnock(fromHex(step.packet), step.from, b, { now })
          transcript = toHex(this.#opened.transcript)
        })
        return { expect: result, ...(transcript === undefined ? {} : { transcript }) }
      }
      case 'open-optimistic': {
        let seen = {}
        const before = this.#sessions.b!
        const bytes = encodeSession(before)
        const result = outcome(() => {
          const { session, envelope } = openOptimistic(this.#opened!, before)
          this.#sessions.b = session
          seen = { envelope }
        })
        if (toHex(encodeSession(before)) !== toHex(bytes)) throw new Error('A session was changed in place')
        return { expect: result, ...seen }
      }
      case 'accept': {
        const terms = { identity: b.identity, constraints: step.constraints }
        const { session, packet, accept } = replayed(step.random, (random) =>
          createAccept(this.#opened!, terms, { random, now }),
        )
        this.#sessions.b = session
        return { session_id: session.id, packet: toHex(packet), accept }
      }
      case 'reject': {
        const terms = {
          identity: b.identity,
          reason: step.reason,
          humanReadable: step.human_readable,
          retryAfterSeconds: null,
        }
        const packet = replayed(step.random, (random) => createReject(this.#opened!, terms, { random, now }))
        return { packet: toHex(packet) }
      }
      case 'answer':
        return {
          expect: outcome(() => {
            const environment = { random: noRandom, now }
            const answer = consumeAnswer(this.#pending!, step.type, fromHex(step.packet), environment)
            if (answer.kind === 'accepted') this.#sessions.a = answer.session
          }),
        }
      case 'send': {
        const { identity } = this.#agents[step.by]
        let made = {}
        const result = outcome(() => {
          const { session, packet, envelope } = replayed(step.random, (random) =>
            createMessage(this.#sessions[step.by]!, step.draft, identity, { random, now }),
          )
          this.#sessions[step.by] = session
          made = { packet: toHex(packet), envelope }
        })
        return { expect: result, ...made }
      }
      case 'receive': {
        const before = this.#sessions[step.by]!
        const bytes = encodeSession(before)
        let seen = {}
        const result = outcome(() => {
          const environment = { random: noRandom, now }
          const consumed = consumeMessage(before, fromHex(step.packet), step.type, environment)
          this.#sessions[step.by] = consumed.session
          seen = seenOf(consumed)
        })
        if (toHex(encodeSession(before)) !== toHex(bytes)) throw new Error('A session was changed in place')
        return { expect: result, ...seen }
      }
      case 'reset': {
        const { identity } = this.#agents[step.by]
        const to = this.#agents[OTHER[step.by]].identity.amid
        const { about, reason, received_up_to } = step
        const counted = received_up_to === undefined ? {} : { receivedUpTo: received_up_to }
        const notice = { to, about, packet: fromHex(step.of), reason, ...counted }
        return { packet: toHex(createReset(identity, notice, now)) }
      }
      case 'consume-reset': {
        const peerSigningKey = this.#agents[OTHER[step.by]].identity.signing.publicKey
        const to = this.#agents[step.by].identity.amid
        const place = { from: step.from, to, peerSigningKey, now }
        return { expect: outcome(() => consumeReset(fromHex(step.packet), place)) }
      }
    }
  }
}

describe('test-vectors/session', () => {
  it('has a file for every scenario and no other', () => {
    expect(names.toSorted()).toEqual([...scenarios.keys()].toSorted())
  })

  it.each([...scenarios])('%s is what the scenario gives, byte for byte', (name, vector) => {
    expect(load(name)).toBe(print(vector))
  })

  it.each(names)('%s replays from the file alone', (name) => {
    const vector = JSON.parse(load(name)) as SessionVector
    const replay = new Replay(vector)
    const refusals: string[] = []
    for (const step of vector.steps) {
      const given = replay.play(step)
      expect(given).toEqual(Object.fromEntries(Object.keys(given).map((key) => [key, step[key as 'do']])))
      if ('expect' in step && step.expect !== 'ok') refusals.push(step.expect)
    }
    expect(refusals).toEqual(vector.expect === 'ok' ? [] : [vector.expect])
  })

  it('refuses a step in every scenario that is named for a refusal', () => {
    const fine = [...scenarios].filter(([, vector]) => vector.expect === 'ok').map(([name]) => name)
    expect(fine).toEqual([
      'handshake-one-time-keys',
      'handshake-no-one-time-keys',
      'handshake-rejected',
      'conversation',
      'conversation-out-of-order',
      'request-response',
      'message-unknown-type',
      'optimistic',
      'optimistic-stripped',
      'reset-session',
      'reset-knock',
      'reset-state-behind',
    ])
  })
})
