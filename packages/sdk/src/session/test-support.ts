/** Two agents with fixed keys, and what happens between them: for tests, so that a failing one fails the same way again. */
import { ed25519KeyPair, kemKeyPair, x25519KeyPair, type KeyPair } from '../crypto/index.ts'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  verifyBundle,
  type Identity,
  type OwnKey,
  type VerifiedBundle,
} from '../identity/index.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { formatKey, type Bundle, type Knock } from '../wire/index.ts'
import type { SessionEnvironment } from './handshake.ts'
import { createAccept } from './knock-answer.ts'
import { consumeAnswer, createKnock, type KnockRequest } from './knock-initiator.ts'
import { openKnock, type KeyLookup, type OpenedKnock } from './knock-responder.ts'
import { grantConstraints, type Session } from './session.ts'

export function environment(name: string, now = NOW): SessionEnvironment {
  return { random: testRandom(name), now }
}

const pairOf = ({ secret }: OwnKey): KeyPair => x25519KeyPair(secret)
const kemPairOf = ({ secret }: OwnKey): KeyPair => kemKeyPair(secret)

/** One agent: its keys, what it publishes, and the lookup its KNOCKs are opened with. */
export class TestAgent {
  readonly identity: Identity
  readonly exchange: OwnKey
  readonly previousExchange: OwnKey
  readonly signed: OwnKey
  readonly lastResort: OwnKey
  readonly oneTime: OwnKey
  readonly oneTimeKem: OwnKey
  readonly usedUp = new Set<OwnKey>()
  readonly seenHeaders = new Set<string>()

  constructor(name: string, versions?: readonly string[]) {
    const random = testRandom(`agent ${name}`)
    this.identity = identityFromKeyPair(ed25519KeyPair(random(32)))
    const options = { startId: 1, sequence: 2, random, now: NOW }
    this.exchange = makeExchangeKey(this.identity, options)
    this.previousExchange = makeExchangeKey(this.identity, { ...options, sequence: 1 })
    this.signed = makeSignedPrekey(this.identity, { ...options, startId: 11 }, versions)
    this.lastResort = makeLastResortKemPrekey(this.identity, { ...options, startId: 21 })
    this.oneTime = makeOneTimePrekeys(this.identity, { ...options, startId: 31, count: 1 })[0]!
    this.oneTimeKem = makeOneTimeKemPrekeys(this.identity, { ...options, startId: 41, count: 1 })[0]!
  }

  get keys(): KeyLookup {
    const isLeft = (key: OwnKey, id: number) => key.record.id === id && !this.usedUp.has(key)
    return {
      find: ({ exchangeKeySequence, signedPrekeyId, oneTimePrekeyId, kemKind, kemPrekeyId }) => {
        const exchangeKeys = [this.exchange, this.previousExchange]
          .filter(({ record }) => record.sequence === exchangeKeySequence)
          .map(pairOf)
        const kem = kemKind === 'one-time' ? this.oneTimeKem : this.lastResort
        const named = isLeft(this.signed, signedPrekeyId) && isLeft(kem, kemPrekeyId)
        if (!named || exchangeKeys.length === 0) return undefined
        if (oneTimePrekeyId !== undefined && !isLeft(this.oneTime, oneTimePrekeyId)) return undefined
        return {
          exchangeKeys,
          signedPrekey: pairOf(this.signed),
          versions: this.signed.record.versions ?? [],
          kemKey: kemPairOf(kem),
          ...(oneTimePrekeyId === undefined ? {} : { oneTimePrekey: pairOf(this.oneTime) }),
        }
      },
      headerSeen: (hash) => this.seenHeaders.has(hash.join()),
    }
  }

  bundle(oneTimeKeys = true): Bundle {
    return {
      amid: this.identity.amid,
      signing_public_key: formatKey('ed25519', this.identity.signing.publicKey),
      exchange_key: this.exchange.record,
      signed_prekey: this.signed.record,
      ...(oneTimeKeys ? { one_time_prekey: this.oneTime.record } : {}),
      kem_prekey: (oneTimeKeys ? this.oneTimeKem : this.lastResort).record,
    }
  }

  verifiedBundle(oneTimeKeys = true): VerifiedBundle {
    return verifyBundle(this.bundle(oneTimeKeys), this.identity.amid, NOW)
  }

  open(packet: Uint8Array, from: TestAgent, now = NOW): OpenedKnock {
    return openKnock(packet, from.identity.amid, this, { now })
  }
}

export const FLIGHTS = { category: 'travel', subcategory: 'flights', action: 'search' }
export const CONVERSATION: Knock['session_request'] = { type: 'conversation', ttl_seconds: 3600 }

export function knockOn(
  from: TestAgent,
  bundle: VerifiedBundle,
  changes: Partial<KnockRequest> = {},
  env = environment('knock'),
) {
  return createKnock(
    {
      identity: from.identity,
      exchangeKey: from.exchange,
      bundle,
      intent: FLIGHTS,
      sessionRequest: CONVERSATION,
      ...changes,
    },
    env,
  )
}

export function acceptTerms(opened: OpenedKnock, by: TestAgent) {
  return {
    identity: by.identity,
    constraints: grantConstraints(opened.knock.session_request),
  }
}

/** A whole handshake, and the two ends of its session. */
export function meet(
  sessionRequest: Knock['session_request'] = CONVERSATION,
  alice = new TestAgent('alice'),
  bob = new TestAgent('bob'),
): { alice: TestAgent; bob: TestAgent; atAlice: Session; atBob: Session } {
  const { pending, packet } = knockOn(alice, bob.verifiedBundle(), { sessionRequest })
  const opened = bob.open(packet, alice)
  const accepted = createAccept(opened, acceptTerms(opened, bob), environment('accept'))
  const answer = consumeAnswer(pending, 'accept', accepted.packet, environment('answer'))
  if (answer.kind !== 'accepted') throw new Error('the handshake failed')
  return { alice, bob, atAlice: answer.session, atBob: accepted.session }
}

export function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const changed = Uint8Array.from(bytes)
  changed[index] = changed[index]! ^ 0x01
  return changed
}
