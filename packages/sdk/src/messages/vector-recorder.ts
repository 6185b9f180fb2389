/**
 * Writes test-vectors/session/: plays a handshake and a conversation between A and B and keeps every input, draw of randomness
 * and packet. It can also forge what a dishonest side could make.
 */
import {
  aeadDecrypt,
  aeadEncrypt,
  concatBytes,
  ownRatchetKey,
  ratchetEncrypt,
  ratchetRespond,
  sign,
} from '../crypto/index.ts'
import { verifyBundle } from '../identity/index.ts'
import {
  associatedData,
  consumeAnswer,
  consumeReset,
  createAccept,
  createKnock,
  createReject,
  createReset,
  grantConstraints,
  openKnock,
  openOptimistic,
  type OpenedKnock,
  type OptimisticDraft,
  type PendingKnock,
  type Session,
} from '../session/index.ts'
import {
  amidToBytes,
  canonicalBytes,
  decodeKnockPacket,
  encodeAnswerPacket,
  encodeKnockPacket,
  encodeSessionPacket,
  idToBytes,
  parseJsonObject,
  toBase64,
  toHex,
  utf8Bytes,
  utf8Text,
  type Amid,
  type Bundle,
  type Constraints,
  type Envelope,
  type JsonObject,
  type Knock,
  type RejectReason,
  type ResetReason,
  type ResetSubject,
} from '../wire/index.ts'
import { consumeMessage, createMessage, relayTypeOf, type MessageDraft } from './message.ts'
import { NOW, testRandom } from '../identity/test-support.ts'
import { agentOf, bundleOf, bytesOf, makeVectorAgent } from './vector-agents.ts'
import { outcome } from '../wire/test-support.ts'
import { OTHER, type Party, type VectorStep, seenOf, type Seen } from './vector-format.ts'

/** The signature's parts by direction. */
const DIRECTION: Readonly<Record<Party, Uint8Array>> = { a: Uint8Array.of(1), b: Uint8Array.of(2) }

/** Plays a scenario and writes down what went in and what came out. */
export class Recorder {
  readonly agents = { a: agentOf(makeVectorAgent('a')), b: agentOf(makeVectorAgent('b')) }
  readonly steps: VectorStep[] = []
  readonly bundle: Bundle
  readonly #random = testRandom('session vectors draws')
  readonly #sessions: Partial<Record<Party, Session>> = {}
  #pending: PendingKnock | undefined
  #opened: OpenedKnock | undefined
  now = NOW

  constructor(oneTimeKeys = true) {
    this.bundle = bundleOf(this.agents.b, oneTimeKeys)
  }

  #drawing<T>(call: (environment: { random: (length: number) => Uint8Array; now: number }) => T) {
    const drawn: Uint8Array[] = []
    const random = (length: number) => {
      const bytes = this.#random(length)
      drawn.push(Uint8Array.from(bytes))
      return bytes
    }
    this.now += 1000
    return {
      now: this.now,
      result: call({ random, now: this.now }),
      draws: () => toHex(concatBytes(...drawn)),
    }
  }

  knock(
    session_request: Knock['session_request'] = { type: 'conversation', ttl_seconds: 3600 },
    optimistic?: OptimisticDraft,
  ): Uint8Array {
    const along = optimistic === undefined ? {} : { optimistic }
    const { a, b } = this.agents
    const intent = {
      category: 'travel',
      subcategory: 'flights',
      action: 'search',
      urgency: 'normal',
    } as const
    const { now, result, draws } = this.#drawing((environment) =>
      createKnock(
        {
          identity: a.identity,
          exchangeKey: {
            record: a.vector.exchange_key.record,
            secret: bytesOf(a.vector.exchange_key.secret),
          },
          bundle: verifyBundle(this.bundle, b.identity.amid, NOW),
          intent,
          sessionRequest: session_request,
          ...along,
        },
        environment,
      ),
    )
    this.#pending = result.pending
    this.steps.push({
      do: 'knock',
      now,
      random: draws(),
      intent,
      session_request,
      ...along,
      packet: toHex(result.packet),
    })
    return result.packet
  }

  open(packet: Uint8Array, from = this.agents.a.identity.amid): string {
    const { now } = this.#drawing(() => undefined)
    let details = {}
    const expect = outcome(() => {
      this.#opened = openKnock(packet, from, this.agents.b, { now })
      details = {
        transcript: toHex(this.#opened.transcript),
        plaintext: utf8Text(this.#plaintextOf(packet)),
      }
    })
    this.steps.push({ do: 'open', now, from, packet: toHex(packet), expect, ...details })
    return expect
  }

  get opened(): OpenedKnock {
    return this.#opened!
  }

  #plaintextOf(packet: Uint8Array): Uint8Array {
    const { headerBytes, sealedKnock } = decodeKnockPacket(packet)
    const nonce = sealedKnock.subarray(0, 24)
    return aeadDecrypt(
      this.opened.keys.knockKey,
      nonce,
      sealedKnock.subarray(24),
      this.#knockPlace(headerBytes),
    )!
  }

  #knockPlace(headerBytes: Uint8Array): Uint8Array {
    const { a, b } = this.agents
    return concatBytes(headerBytes, amidToBytes(a.identity.amid), amidToBytes(b.identity.amid))
  }

  /** A KNOCK with its JSON changed, signed and sealed again, as a dishonest A can. Call after `open`. */
  forgeKnock(packet: Uint8Array, change: (knock: JsonObject) => void, signer: Party = 'a'): Uint8Array {
    const { headerBytes } = decodeKnockPacket(packet)
    const { signature: _, ...knock } = parseJsonObject(this.#plaintextOf(packet), 10_000)
    change(knock)
    const { secretKey } = this.agents[signer].identity.signing
    const signature = sign('knock', secretKey, this.opened.transcript, headerBytes, canonicalBytes(knock))
    const text = JSON.stringify({ ...knock, signature: toBase64(signature) })
    const nonce = this.#random(24)
    const sealed = aeadEncrypt(
      this.opened.keys.knockKey,
      nonce,
      utf8Bytes(text),
      this.#knockPlace(headerBytes),
    )
    return encodeKnockPacket(headerBytes, concatBytes(nonce, sealed))
  }

  openOptimistic(): string {
    let envelope: Envelope | undefined
    const { now, result } = this.#drawing(() =>
      outcome(() => {
        const taken = openOptimistic(this.opened, this.#sessions.b!)
        this.#sessions.b = taken.session
        envelope = taken.envelope
      }),
    )
    const seen = envelope === undefined ? {} : { envelope }
    this.steps.push({ do: 'open-optimistic', now, expect: result, ...seen })
    return result
  }

  /** The packet's KNOCK opens and is let in; what is behind it is refused, and A learns so. */
  refuseOptimistic(packet: Uint8Array, limits?: Partial<Constraints>): void {
    this.open(packet)
    const accept = this.accept(limits)
    this.openOptimistic()
    this.answer(accept)
  }

  /** A KNOCK with a message of a dishonest A: changed, then signed and sealed. Call after `open`. */
  forgeOptimistic(knock: Uint8Array, change: (raw: JsonObject) => void, signer: Party = 'a'): Uint8Array {
    const { opened } = this
    const [from, to] = [this.agents.a.identity.amid, this.agents.b.identity.amid]
    const raw: JsonObject = {
      knock_hash: toBase64(opened.knockHash),
      id: '00000000-0000-4000-8000-000000000001',
      sequence: 1,
      from,
      to,
      type: 'request',
      timestamp: opened.knock.timestamp,
      payload: { intent: { category: 'travel' }, parameters: {} },
    }
    change(raw)
    const { secretKey } = this.agents[signer].identity.signing
    raw['signature'] = toBase64(sign('envelope', secretKey, DIRECTION.a, canonicalBytes(raw)))
    const { version, knockHash: context } = opened
    const place = associatedData({ type: 'knock', version, context, from, to })
    const nonce = this.#random(24)
    const sealed = aeadEncrypt(opened.keys.optimisticKey, nonce, utf8Bytes(JSON.stringify(raw)), place)
    return concatBytes(decodeKnockPacket(knock).knockBytes, nonce, sealed)
  }

  accept(limits: Partial<Constraints> = {}): Uint8Array {
    const { b } = this.agents
    const constraints = { ...grantConstraints(this.opened.knock.session_request), ...limits }
    const { now, result, draws } = this.#drawing((environment) =>
      createAccept(this.opened, { identity: b.identity, constraints }, environment),
    )
    this.#sessions.b = result.session
    const { packet, accept } = result
    this.steps.push({
      do: 'accept',
      now,
      random: draws(),
      session_id: result.session.id,
      constraints,
      packet: toHex(packet),
      accept,
    })
    return packet
  }

  reject(reason: RejectReason, human_readable: string): Uint8Array {
    const terms = {
      identity: this.agents.b.identity,
      reason,
      humanReadable: human_readable,
      retryAfterSeconds: null,
    }
    const { now, result, draws } = this.#drawing((environment) =>
      createReject(this.opened, terms, environment),
    )
    this.steps.push({ do: 'reject', now, random: draws(), reason, human_readable, packet: toHex(result) })
    return result
  }

  /** An ACCEPT with fields changed, signed by `signer` and sealed with B's keys, as a dishonest B can. */
  forgeAccept(accept: object, signer: Party = 'b'): Uint8Array {
    const { opened } = this
    const { a, b } = this.agents
    const environment = { random: this.#random, now: this.now }
    const ratchet = ratchetRespond(opened.keys, opened.ratchetKey, opened.kemKey, environment)
    const signature = sign(
      'accept',
      this.agents[signer].identity.signing.secretKey,
      opened.transcript,
      amidToBytes(a.identity.amid),
      amidToBytes(b.identity.amid),
      ownRatchetKey(ratchet)!,
      canonicalBytes(accept),
    )
    const place = associatedData({
      type: 'accept',
      version: opened.version,
      context: opened.knockHash,
      from: b.identity.amid,
      to: a.identity.amid,
    })
    const text = JSON.stringify({ ...accept, signature: toBase64(signature) })
    const { message } = ratchetEncrypt(ratchet, utf8Bytes(text), place, environment)
    return encodeAnswerPacket({ knockHash: opened.knockHash, ratchetMessage: message })
  }

  answer(packet: Uint8Array, type: 'accept' | 'reject' = 'accept'): string {
    const { now, result } = this.#drawing((environment) =>
      outcome(() => {
        const answer = consumeAnswer(this.#pending!, type, packet, environment)
        if (answer.kind === 'accepted') this.#sessions.a = answer.session
      }),
    )
    this.steps.push({ do: 'answer', now, type, packet: toHex(packet), expect: result })
    return result
  }

  /** A whole handshake. */
  meet(session_request?: Knock['session_request'], limits?: Partial<Constraints>): this {
    this.open(this.knock(session_request))
    this.answer(this.accept(limits))
    return this
  }

  /** The packet; empty when the message was refused. */
  send(by: Party, draft: MessageDraft): Uint8Array {
    const { now, result, draws } = this.#drawing((environment) => {
      let made: ReturnType<typeof createMessage> | undefined
      const expect = outcome(() => {
        made = createMessage(this.#sessions[by]!, draft, this.agents[by].identity, environment)
        this.#sessions[by] = made.session
      })
      return { expect, made }
    })
    const { expect, made } = result
    const given = made === undefined ? {} : { packet: toHex(made.packet), envelope: made.envelope }
    this.steps.push({ do: 'send', by, now, random: draws(), draft, expect, ...given })
    return made?.packet ?? new Uint8Array(0)
  }

  receive(by: Party, packet: Uint8Array, type: 'message' | 'close' = 'message'): string {
    let seen: Seen = {}
    const { now, result } = this.#drawing((environment) =>
      outcome(() => {
        const consumed = consumeMessage(this.#sessions[by]!, packet, type, environment)
        this.#sessions[by] = consumed.session
        seen = seenOf(consumed)
      }),
    )
    this.steps.push({ do: 'receive', by, now, type, packet: toHex(packet), expect: result, ...seen })
    return result
  }

  /** `by` could not use the packet `of`. */
  reset(by: Party, about: ResetSubject, of: Uint8Array, reason: ResetReason, received_up_to?: number) {
    const { identity } = this.agents[by]
    const to = this.agents[OTHER[by]].identity.amid
    const counted = received_up_to === undefined ? {} : { receivedUpTo: received_up_to }
    const { now, result } = this.#drawing((environment) =>
      createReset(identity, { to, about, packet: of, reason, ...counted }, environment.now),
    )
    const seen = received_up_to === undefined ? {} : { received_up_to }
    this.steps.push({ do: 'reset', by, now, about, of: toHex(of), reason, ...seen, packet: toHex(result) })
    return result
  }

  /** B's RESET with another receiver, signed again, as a dishonest B can. */
  resetTo(to: Amid, packet: Uint8Array): Uint8Array {
    const { signature: _, ...rest } = parseJsonObject(packet, 10_000)
    const reset = { ...rest, to }
    const signature = sign('reset', this.agents.b.identity.signing.secretKey, canonicalBytes(reset))
    return canonicalBytes({ ...reset, signature: toBase64(signature) })
  }

  consumeReset(by: Party, packet: Uint8Array, from = this.agents[OTHER[by]].identity.amid): string {
    const peerSigningKey = this.agents[OTHER[by]].identity.signing.publicKey
    const to = this.agents[by].identity.amid
    const { now, result } = this.#drawing(({ now: at }) =>
      outcome(() => consumeReset(packet, { from, to, peerSigningKey, now: at })),
    )
    this.steps.push({ do: 'consume-reset', by, now, from, packet: toHex(packet), expect: result })
    return result
  }

  say(from: Party, draft: MessageDraft): void {
    this.receive(OTHER[from], this.send(from, draft), relayTypeOf(draft.type))
  }

  /** The next message of `from` with its envelope changed, signed and encrypted again, as a dishonest peer can. */
  forgeMessage(
    from: Party,
    envelope: Envelope,
    change: (raw: JsonObject) => void,
    direction = from,
  ): Uint8Array {
    const session = this.#sessions[from]!
    const raw = structuredClone<unknown>(envelope) as JsonObject
    delete raw['signature']
    change(raw)
    const { secretKey } = this.agents[from].identity.signing
    raw['signature'] = toBase64(sign('envelope', secretKey, DIRECTION[direction], canonicalBytes(raw)))
    const place = associatedData({
      type: 'message',
      version: session.version,
      context: idToBytes(session.id),
      from: session.self,
      to: session.peer,
    })
    const environment = { random: this.#random, now: this.now }
    const { message } = ratchetEncrypt(session.ratchet, utf8Bytes(JSON.stringify(raw)), place, environment)
    return encodeSessionPacket({ sessionId: session.id, ratchetMessage: message })
  }

  /** The envelope of the last `send`. */
  get lastEnvelope(): Envelope {
    const step = this.steps.findLast((candidate) => candidate.do === 'send')
    return step!.envelope!
  }
}
