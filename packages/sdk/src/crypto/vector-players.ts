/**
 * Plays handshakes and conversations with repeatable randomness and writes down every byte, for test-vectors/crypto/.
 */
import { isAgentMeshError, type ErrorCode } from '../wire/errors.ts'
import { kemKeyPair, x25519KeyPair, type RandomBytes } from './primitives.ts'
import { ratchetDecrypt, ratchetEncrypt, ratchetInitiate, ratchetRespond } from './ratchet.ts'
import type { RatchetState } from './ratchet-state.ts'
import { bundleOf, seededRandom, TEST_CONTEXT } from './test-support.ts'
import type { Outcome, Party, RatchetStep, RatchetVector, X3dhVector } from './vector-format.ts'
import { x3dhInitiate, type KemKind, type X3dhKeys, type X3dhPeer } from './x3dh.ts'

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
export const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** Keeps a copy of every draw, since the code under test overwrites what it drew. */
export function recorder(random: RandomBytes): { readonly random: RandomBytes; readonly take: () => string } {
  let drawn = ''
  return {
    random: (length) => {
      const bytes = random(length)
      drawn += toHex(bytes)
      return bytes
    },
    take: () => {
      const all = drawn
      drawn = ''
      return all
    },
  }
}

export interface X3dhScenario {
  readonly description: string
  readonly seed: string
  readonly kemKind: KemKind
  readonly oneTimePrekey: boolean
  readonly refused?: { readonly by: Party; readonly expect: ErrorCode }
  /** What a hostile registry hands out. */
  readonly bundle?: (bundle: X3dhPeer) => X3dhPeer
  /** What a hostile initiator sends as EK_A. */
  readonly ephemeralKey?: Uint8Array
}

export function playX3dh(scenario: X3dhScenario): {
  vector: X3dhVector
  keys: X3dhKeys | null
  ratchetSecret: Uint8Array
} {
  const source = seededRandom(scenario.seed)
  const secrets = {
    identity: source(32),
    signedPrekey: source(32),
    kemSeed: source(64),
    oneTimePrekey: source(32),
  }
  const responder = {
    identityKey: x25519KeyPair(secrets.identity),
    signedPrekey: x25519KeyPair(secrets.signedPrekey),
    kemKey: kemKeyPair(secrets.kemSeed),
    kemKind: scenario.kemKind,
    ...(scenario.oneTimePrekey ? { oneTimePrekey: x25519KeyPair(secrets.oneTimePrekey) } : {}),
  }
  const honest = bundleOf(responder)
  const bundle = scenario.bundle?.(honest) ?? honest
  const identity = x25519KeyPair(source(32))
  const draws = recorder(source)
  const initiation =
    scenario.refused?.by === 'a' ? null : x3dhInitiate(TEST_CONTEXT, identity, bundle, draws.random)
  const random = initiation === null ? toHex(source(96)) : draws.take()
  const { refused } = scenario
  const keys = initiation?.keys
  return {
    keys: keys ?? null,
    ratchetSecret: initiation?.ratchetKeyPair.secretKey ?? new Uint8Array(0),
    vector: {
      description: scenario.description,
      section: 'spec/crypto.md 4',
      expect: refused?.expect ?? 'ok',
      kind: 'x3dh',
      ...(refused === undefined ? {} : { refused_by: refused.by }),
      context: {
        initiator: toHex(TEST_CONTEXT.initiator),
        responder: toHex(TEST_CONTEXT.responder),
        initiator_versions: TEST_CONTEXT.initiatorVersions,
        responder_versions: TEST_CONTEXT.responderVersions,
      },
      initiator: { identity_secret: toHex(identity.secretKey), random },
      responder: {
        identity_secret: toHex(secrets.identity),
        signed_prekey_secret: toHex(secrets.signedPrekey),
        one_time_prekey_secret: scenario.oneTimePrekey ? toHex(secrets.oneTimePrekey) : null,
        kem_seed: toHex(secrets.kemSeed),
        kem_kind: scenario.kemKind,
      },
      bundle: {
        identity_key: toHex(bundle.identityKey),
        signed_prekey: toHex(bundle.signedPrekey),
        one_time_prekey: bundle.oneTimePrekey === undefined ? null : toHex(bundle.oneTimePrekey),
        kem_key: toHex(bundle.kemKey),
      },
      offer:
        initiation === null
          ? null
          : {
              identity_key: toHex(identity.publicKey),
              ephemeral_key: toHex(scenario.ephemeralKey ?? initiation.ephemeralKey),
              ratchet_key: toHex(initiation.ratchetKeyPair.publicKey),
              kem_ciphertext: toHex(initiation.kemCiphertext),
            },
      result:
        initiation === null || keys === undefined || refused !== undefined
          ? null
          : {
              transcript: toHex(initiation.transcript),
              knock_key: toHex(keys.knockKey),
              optimistic_key: toHex(keys.optimisticKey),
              chain_key: toHex(keys.chainKey),
              initiator_header_key: toHex(keys.initiatorHeaderKey),
              responder_header_key: toHex(keys.responderHeaderKey),
            },
    },
  }
}

export const AD = text('session, both AMIDs, type, version')

/** Plays a conversation and writes down each step. Starts after ratchetRespond, with B to send first. */
export class Conversation {
  readonly steps: RatchetStep[] = []
  now = 1_800_000_000_000
  readonly #draws: ReturnType<typeof recorder>
  readonly #states: { a: RatchetState; b: RatchetState }
  readonly #head: Pick<RatchetVector, 'keys' | 'initiator'>

  constructor(seed: string) {
    const { keys, ratchetSecret } = playX3dh({
      description: '',
      seed,
      kemKind: 'one-time',
      oneTimePrekey: true,
    })
    if (keys === null) throw new Error('the handshake of a conversation succeeds')
    const source = seededRandom(`${seed}, conversation`)
    const kemSeed = source(64)
    const kem = kemKeyPair(kemSeed)
    const ratchet = x25519KeyPair(ratchetSecret)
    this.#head = {
      keys: {
        chain_key: toHex(keys.chainKey),
        initiator_header_key: toHex(keys.initiatorHeaderKey),
        responder_header_key: toHex(keys.responderHeaderKey),
      },
      initiator: { ratchet_secret: toHex(ratchetSecret), kem_seed: toHex(kemSeed) },
    }
    this.#draws = recorder(source)
    this.#states = {
      a: ratchetInitiate(keys, ratchet, kem),
      b: ratchetRespond(keys, ratchet.publicKey, kem.publicKey, this.#environment()),
    }
    this.steps.push({ do: 'respond', by: 'b', now: this.now, random: this.#draws.take() })
  }

  #environment() {
    return { random: this.#draws.random, now: this.now }
  }

  send(by: Party, body: string): Uint8Array {
    const { state, message } = ratchetEncrypt(this.#states[by], text(body), AD, this.#environment())
    this.#states[by] = state
    this.steps.push({
      do: 'encrypt',
      by,
      now: this.now,
      random: this.#draws.take(),
      plaintext: toHex(text(body)),
      associated_data: toHex(AD),
      message: toHex(message),
    })
    return message
  }

  /** Messages that are encrypted and never seen again. The chain must be open already. */
  discard(by: Party, count: number): void {
    for (let n = 0; n < count; n++) {
      const environment = { random: (length: number) => new Uint8Array(length), now: this.now }
      this.#states[by] = ratchetEncrypt(this.#states[by], new Uint8Array(0), AD, environment).state
    }
    this.steps.push({ do: 'discard', by, now: this.now, count })
  }

  /** Delivers a message and writes down what came of it. */
  receive(by: Party, message: Uint8Array, associatedData = AD): void {
    const step = {
      do: 'decrypt',
      by,
      now: this.now,
      message: toHex(message),
      associated_data: toHex(associatedData),
    } as const
    try {
      const { state, plaintext } = ratchetDecrypt(
        this.#states[by],
        message,
        associatedData,
        this.#environment(),
      )
      this.#states[by] = state
      this.steps.push({ ...step, expect: 'ok', plaintext: toHex(plaintext) })
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.steps.push({ ...step, expect: error.code, plaintext: null })
    }
  }

  vector(description: string, expect: Outcome): RatchetVector {
    return {
      description,
      section: 'spec/crypto.md 5',
      expect,
      kind: 'ratchet',
      ...this.#head,
      steps: this.steps,
    }
  }
}

export function conversation(
  description: string,
  expect: Outcome,
  play: (talk: Conversation) => void,
): RatchetVector {
  const talk = new Conversation(description)
  play(talk)
  return talk.vector(description, expect)
}
