/** Sessions with fixed keys for the tests of messages, made through the layers below as the engine makes them. */
import { ed25519KeyPair, kemKeyPair, x25519KeyPair } from '../crypto/index.ts'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeOneTimeKemPrekeys,
  makeOneTimePrekeys,
  makeSignedPrekey,
  verifyBundle,
  type Identity,
} from '../identity/index.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import {
  consumeAnswer,
  createAccept,
  createKnock,
  grantConstraints,
  openKnock,
  type KeyLookup,
  type Session,
  type SessionEnvironment,
} from '../session/index.ts'
import { AgentMeshError, formatKey, newMessageId, type Constraints, type SessionType } from '../wire/index.ts'
import { consumeMessage, type MessageDraft } from './message.ts'

const random = testRandom('messages')
export const environment = (now = NOW): SessionEnvironment => ({ random, now })

export interface End {
  readonly identity: Identity
  readonly session: Session
}

export interface Terms {
  readonly type?: SessionType
  readonly constraints?: Partial<Constraints>
}

/** Alice knocked and Bob accepted. */
export function makeEnds({ type = 'conversation', constraints = {} }: Terms = {}): { alice: End; bob: End } {
  const draws = testRandom('ends')
  const env = { random: draws, now: NOW }
  const alice = identityFromKeyPair(ed25519KeyPair(draws(32)))
  const bob = identityFromKeyPair(ed25519KeyPair(draws(32)))
  const options = { startId: 1, sequence: 1, random: draws, now: NOW }
  const exchange = makeExchangeKey(bob, options)
  const signed = makeSignedPrekey(bob, options)
  const oneTime = makeOneTimePrekeys(bob, { ...options, count: 1 })[0]!
  const kem = makeOneTimeKemPrekeys(bob, { ...options, count: 1 })[0]!
  const bundle = {
    amid: bob.amid,
    signing_public_key: formatKey('ed25519', bob.signing.publicKey),
    exchange_key: exchange.record,
    signed_prekey: signed.record,
    one_time_prekey: oneTime.record,
    kem_prekey: kem.record,
  }
  const keys: KeyLookup = {
    find: () => ({
      exchangeKeys: [x25519KeyPair(exchange.secret)],
      signedPrekey: x25519KeyPair(signed.secret),
      versions: signed.record.versions ?? [],
      oneTimePrekey: x25519KeyPair(oneTime.secret),
      kemKey: kemKeyPair(kem.secret),
    }),
    headerSeen: () => false,
  }
  const { pending, packet } = createKnock(
    {
      identity: alice,
      exchangeKey: makeExchangeKey(alice, options),
      bundle: verifyBundle(bundle, bob.amid, NOW),
      intent: { category: 'travel' },
      sessionRequest: { type, ttl_seconds: 3600 },
    },
    env,
  )
  const opened = openKnock(packet, alice.amid, { identity: bob, keys }, env)
  const granted = { ...grantConstraints(opened.knock.session_request), ...constraints }
  const accepted = createAccept(opened, { identity: bob, constraints: granted }, env)
  const answer = consumeAnswer(pending, 'accept', accepted.packet, env)
  if (answer.kind !== 'accepted') throw new Error('the handshake failed')
  return {
    alice: { identity: alice, session: answer.session },
    bob: { identity: bob, session: accepted.session },
  }
}

type DraftOf<T extends MessageDraft['type']> = Extract<MessageDraft, { type: T }>

export function request(parameters: Record<string, unknown> = { to: 'BER' }): DraftOf<'request'> {
  return {
    type: 'request',
    id: newMessageId(random),
    payload: { intent: { category: 'travel' }, parameters },
  }
}

export function response(results: unknown = []): DraftOf<'response'> {
  return { type: 'response', id: newMessageId(random), payload: { status: 'success', results } }
}

export function status(): DraftOf<'status'> {
  return { type: 'status', id: newMessageId(random), payload: { status: 'processing', progress: 0.5 } }
}

export function failure(): DraftOf<'error'> {
  return { type: 'error', id: newMessageId(random), payload: { code: 'BUSY', message: 'Later.' } }
}

export function need(): DraftOf<'capability_negotiation'> {
  return { type: 'capability_negotiation', id: newMessageId(random), payload: { i_need: ['flight_search'] } }
}

export function offer(): DraftOf<'capability_negotiation_response'> {
  return {
    type: 'capability_negotiation_response',
    id: newMessageId(random),
    payload: { matched: ['flight_search'], unavailable: [] },
  }
}

export function close(): DraftOf<'close'> {
  return {
    type: 'close',
    id: newMessageId(random),
    payload: { reason: 'completed' },
    receipts: receipt().payload,
  }
}

export function receipt(received = 0): DraftOf<'receipt'> {
  return {
    type: 'receipt',
    id: newMessageId(random),
    payload: { received, at: '2026-02-01T12:00:00Z' },
  }
}

/** Reads a message that is expected to be good. @throws the code with which it was refused */
export function readMessage(
  ...args: Parameters<typeof consumeMessage>
): Extract<ReturnType<typeof consumeMessage>, { kind: 'read' }> {
  const consumed = consumeMessage(...args)
  if (consumed.kind === 'read') return consumed
  throw new AgentMeshError(consumed.kind === 'refused' ? consumed.refused.code : 'SESSION_CLOSED')
}
