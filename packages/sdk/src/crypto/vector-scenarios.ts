/**
 * The scenarios behind test-vectors/crypto/: each plays one handshake or conversation with repeatable randomness and writes
 * down every byte, with what the last refusing step must answer. The format is described in spec/crypto.md.
 *
 * vectors.test.ts compares them with the files and replays the files; with UPDATE_VECTORS=1 it writes them.
 */
import { isAgentMeshError, type ErrorCode } from '../wire/errors.ts'
import { ed25519KeyPair, kemKeyPair, x25519KeyPair, type RandomBytes } from './primitives.ts'
import { ratchetDecrypt, ratchetEncrypt, ratchetInitiate, ratchetRespond } from './ratchet.ts'
import type { RatchetState } from './ratchet-state.ts'
import { open, seal } from './sealing.ts'
import { sign, signedBytes, verify, type SigningLabel } from './signing.ts'
import { bundleOf, flipBit, seededRandom, TEST_CONTEXT } from './test-support.ts'
import { x3dhInitiate, type KemKind, type X3dhKeys, type X3dhPeer } from './x3dh.ts'

type Outcome = 'ok' | ErrorCode
type Party = 'a' | 'b'

interface VectorHead {
  readonly description: string
  readonly section: string
  readonly expect: Outcome
}

export interface X3dhVector extends VectorHead {
  readonly kind: 'x3dh'
  /** Who refuses, in a vector that expects a refusal. */
  readonly refused_by?: Party
  readonly context: {
    readonly initiator: string
    readonly responder: string
    readonly initiator_versions: readonly string[]
    readonly responder_versions: readonly string[]
  }
  readonly initiator: { readonly identity_secret: string; readonly random: string }
  readonly responder: {
    readonly identity_secret: string
    readonly signed_prekey_secret: string
    readonly one_time_prekey_secret: string | null
    readonly kem_seed: string
    readonly kem_kind: KemKind
  }
  readonly bundle: {
    readonly identity_key: string
    readonly signed_prekey: string
    readonly one_time_prekey: string | null
    readonly kem_key: string
  }
  readonly offer: {
    readonly identity_key: string
    readonly ephemeral_key: string
    readonly ratchet_key: string
    readonly kem_ciphertext: string
  } | null
  readonly result: {
    readonly transcript: string
    readonly knock_key: string
    readonly optimistic_key: string
    readonly chain_key: string
    readonly initiator_header_key: string
    readonly responder_header_key: string
  } | null
}

export type RatchetStep =
  | { readonly do: 'respond'; readonly by: 'b'; readonly now: number; readonly random: string }
  | {
      readonly do: 'encrypt'
      readonly by: Party
      readonly now: number
      readonly random: string
      readonly plaintext: string
      readonly associated_data: string
      readonly message: string
    }
  | { readonly do: 'discard'; readonly by: Party; readonly now: number; readonly count: number }
  | {
      readonly do: 'decrypt'
      readonly by: Party
      readonly now: number
      readonly message: string
      readonly associated_data: string
      readonly expect: Outcome
      readonly plaintext: string | null
    }

export interface RatchetVector extends VectorHead {
  readonly kind: 'ratchet'
  readonly keys: {
    readonly chain_key: string
    readonly initiator_header_key: string
    readonly responder_header_key: string
  }
  readonly initiator: { readonly ratchet_secret: string; readonly kem_seed: string }
  readonly steps: readonly RatchetStep[]
}

export interface SignatureVector extends VectorHead {
  readonly kind: 'signature'
  readonly label: SigningLabel
  readonly public_key: string
  readonly seed: string
  readonly parts: readonly string[]
  readonly signed_bytes: string
  readonly signature: string
}

export interface SealVector extends VectorHead {
  readonly kind: 'seal'
  readonly key: string
  readonly place: string
  readonly random: string
  readonly plaintext: string
  readonly sealed: string
}

export type CryptoVector = X3dhVector | RatchetVector | SignatureVector | SealVector

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** Keeps a copy of every draw, since the code under test overwrites what it drew. */
function recorder(random: RandomBytes): { readonly random: RandomBytes; readonly take: () => string } {
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

interface X3dhScenario {
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

function playX3dh(scenario: X3dhScenario): {
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

const AD = text('session, both AMIDs, type, version')

/** Plays a conversation and writes down each step. Starts after ratchetRespond, with B to send first. */
class Conversation {
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

function conversation(
  description: string,
  expect: Outcome,
  play: (talk: Conversation) => void,
): RatchetVector {
  const talk = new Conversation(description)
  play(talk)
  return talk.vector(description, expect)
}

/** A message arrives changed, is refused, and then arrives as it was sent. */
function refusedOnce(
  description: string,
  expect: ErrorCode,
  change: (message: Uint8Array) => Uint8Array,
): RatchetVector {
  return conversation(description, expect, (talk) => {
    talk.receive('a', talk.send('b', 'ACCEPT'))
    const message = talk.send('a', 'hello')
    talk.receive('b', change(message))
    talk.receive('b', message)
  })
}

const FIRST_HEADER_BYTE = 2 + 24

function signatureVector(description: string, expect: Outcome, usedLabel: SigningLabel): SignatureVector {
  const seed = seededRandom('signature vectors')(32)
  const pair = ed25519KeyPair(seed)
  const parts = [text('first part'), text(''), text('third part')]
  const signature = sign('envelope', pair.secretKey, ...parts)
  const verifies = verify(usedLabel, pair.publicKey, signature, ...parts)
  if (verifies !== (expect === 'ok')) throw new Error('the scenario does not come out as it says')
  return {
    description,
    section: 'spec/crypto.md 2',
    expect,
    kind: 'signature',
    label: usedLabel,
    public_key: toHex(pair.publicKey),
    seed: toHex(seed),
    parts: parts.map(toHex),
    signed_bytes: toHex(signedBytes(usedLabel, ...parts)),
    signature: toHex(signature),
  }
}

function sealVector(description: string, expect: Outcome, openedAt: string): SealVector {
  const source = seededRandom('seal vectors')
  const key = source(32)
  const draws = recorder(source)
  const sealed = seal(key, text('a record'), text('state.db/sessions/1'), draws.random)
  if (expect === 'ok') open(key, sealed, text(openedAt))
  return {
    description,
    section: 'spec/crypto.md 3',
    expect,
    kind: 'seal',
    key: toHex(key),
    place: toHex(text(openedAt)),
    random: draws.take(),
    plaintext: toHex(text('a record')),
    sealed: toHex(sealed),
  }
}

/** Every vector, by file name. */
export function cryptoVectors(): ReadonlyMap<string, CryptoVector> {
  const x3dh = (scenario: X3dhScenario) => playX3dh(scenario).vector
  const both = { kemKind: 'one-time', oneTimePrekey: true } as const
  const unreduced = (key: Uint8Array) => {
    const changed = key.slice()
    changed.set([0xff, 0xff, 0xff])
    return changed
  }
  return new Map<string, CryptoVector>([
    [
      'x3dh-one-time-keys',
      x3dh({
        description: 'X3DH with a one-time curve prekey and a one-time KEM key',
        seed: 'x3dh 1',
        ...both,
      }),
    ],
    [
      'x3dh-no-one-time-prekey',
      x3dh({
        description: 'X3DH without a one-time curve prekey',
        seed: 'x3dh 2',
        kemKind: 'one-time',
        oneTimePrekey: false,
      }),
    ],
    [
      'x3dh-last-resort-kem',
      x3dh({
        description: 'X3DH with a one-time curve prekey and the last-resort KEM key',
        seed: 'x3dh 3',
        kemKind: 'last-resort',
        oneTimePrekey: true,
      }),
    ],
    [
      'x3dh-last-resort-only',
      x3dh({
        description: 'X3DH when all one-time keys have run out',
        seed: 'x3dh 4',
        kemKind: 'last-resort',
        oneTimePrekey: false,
      }),
    ],
    [
      'x3dh-weak-signed-prekey',
      x3dh({
        description: 'The bundle has a signed prekey of small order',
        seed: 'x3dh 5',
        ...both,
        refused: { by: 'a', expect: 'WEAK_SHARED_SECRET' },
        bundle: (bundle) => ({ ...bundle, signedPrekey: new Uint8Array(32) }),
      }),
    ],
    [
      'x3dh-weak-ephemeral-key',
      x3dh({
        description: 'The KNOCK has an ephemeral key of small order',
        seed: 'x3dh 6',
        ...both,
        refused: { by: 'b', expect: 'WEAK_SHARED_SECRET' },
        ephemeralKey: new Uint8Array(32),
      }),
    ],
    [
      'x3dh-unreduced-kem-key',
      x3dh({
        description: 'The bundle has a KEM key with a coefficient of q or more',
        seed: 'x3dh 7',
        ...both,
        refused: { by: 'a', expect: 'INVALID_KEY' },
        bundle: (bundle) => ({ ...bundle, kemKey: unreduced(bundle.kemKey) }),
      }),
    ],
    [
      'ratchet-ping-pong',
      conversation('Three round trips, one message each way', 'ok', (talk) => {
        for (let n = 0; n < 3; n++) {
          talk.receive('a', talk.send('b', `ping ${n}`))
          talk.receive('b', talk.send('a', `pong ${n}`))
        }
      }),
    ],
    [
      'ratchet-out-of-order',
      conversation('Messages arrive in another order, also after their chain has ended', 'ok', (talk) => {
        const early = ['zero', 'one', 'two', 'three'].map((body) => talk.send('b', body))
        for (const at of [2, 0]) talk.receive('a', early[at] ?? AD)
        talk.receive('b', talk.send('a', 'turn'))
        const late = ['four', 'five'].map((body) => talk.send('b', body))
        talk.receive('a', late[1] ?? AD)
        talk.receive('a', early[3] ?? AD)
        talk.receive('a', late[0] ?? AD)
        talk.receive('a', early[1] ?? AD)
      }),
    ],
    [
      'ratchet-lost',
      conversation('Messages of both sides are lost, within a chain and at its end', 'ok', (talk) => {
        talk.send('b', 'lost')
        talk.receive('a', talk.send('b', 'arrives'))
        talk.send('b', 'lost at the end of the chain')
        talk.send('a', 'lost')
        talk.receive('b', talk.send('a', 'arrives'))
        talk.send('a', 'lost at the end of the chain')
        talk.receive('a', talk.send('b', 'and it goes on'))
        talk.receive('b', talk.send('a', 'on both sides'))
      }),
    ],
    [
      'ratchet-kem-step',
      conversation('KEM steps after ten minutes, by A and then by B', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'ACCEPT, with the first step'))
        talk.now += 599_999
        talk.receive('b', talk.send('a', 'a millisecond too early'))
        talk.receive('a', talk.send('b', 'not my step to make'))
        talk.now += 1
        talk.receive('b', talk.send('a', 'with a step'))
        talk.now += 600_000
        talk.receive('a', talk.send('b', 'with a step'))
        talk.receive('b', talk.send('a', 'without'))
      }),
    ],
    [
      'ratchet-kem-step-by-count',
      conversation('A KEM step after fifty messages, both directions together', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'one'))
        talk.receive('b', talk.send('a', 'two'))
        talk.discard('a', 47)
        talk.receive('a', talk.send('b', 'fifty for A, three for B'))
        talk.receive('b', talk.send('a', 'with a step'))
      }),
    ],
    [
      'ratchet-gap-25000',
      conversation('A message 25,000 ahead of its chain is taken', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'first'))
        talk.discard('b', 25_000)
        talk.receive('a', talk.send('b', 'far ahead'))
      }),
    ],
    [
      'ratchet-gap-25001',
      conversation('A message 25,001 ahead of its chain is refused', 'RATCHET_GAP', (talk) => {
        talk.receive('a', talk.send('b', 'first'))
        talk.discard('b', 25_001)
        talk.receive('a', talk.send('b', 'too far ahead'))
      }),
    ],
    [
      'ratchet-skipped-2001',
      conversation('Of 2,001 skipped messages the oldest is refused', 'RATCHET_DUPLICATE', (talk) => {
        const [oldest, second] = [talk.send('b', 'oldest'), talk.send('b', 'second')]
        talk.discard('b', 1999)
        talk.receive('a', talk.send('b', 'last'))
        talk.receive('a', oldest)
        talk.receive('a', second)
      }),
    ],
    [
      'ratchet-sixth-chain',
      conversation(
        'Of six chains with skipped messages the oldest is refused',
        'DECRYPTION_FAILED',
        (talk) => {
          const missing: Uint8Array[] = []
          for (let n = 0; n < 6; n++) {
            missing.push(talk.send('b', `missing ${n}`))
            talk.receive('a', talk.send('b', 'ping'))
            talk.receive('b', talk.send('a', 'pong'))
          }
          for (const message of missing) talk.receive('a', message)
        },
      ),
    ],
    [
      'ratchet-duplicate',
      conversation('A message comes twice', 'RATCHET_DUPLICATE', (talk) => {
        const message = talk.send('b', 'once')
        talk.receive('a', message)
        talk.receive('a', message)
      }),
    ],
    [
      'ratchet-changed-header',
      refusedOnce('A bit of the sealed header is flipped', 'DECRYPTION_FAILED', (m) =>
        flipBit(m, FIRST_HEADER_BYTE * 8),
      ),
    ],
    [
      'ratchet-changed-nonce',
      refusedOnce('A bit of the nonce is flipped', 'DECRYPTION_FAILED', (m) => flipBit(m, 2 * 8)),
    ],
    [
      'ratchet-changed-ciphertext',
      refusedOnce('A bit of the ciphertext is flipped', 'DECRYPTION_FAILED', (m) =>
        flipBit(m, (m.length - 17) * 8),
      ),
    ],
    [
      'ratchet-cut-short',
      refusedOnce('The message ends before its ciphertext has a tag', 'MALFORMED', (m) =>
        m.subarray(0, 2 + 24 + 57 + 15),
      ),
    ],
    [
      'ratchet-wrong-associated-data',
      conversation('A message arrives under other associated data', 'DECRYPTION_FAILED', (talk) => {
        const message = talk.send('b', 'hello')
        talk.receive('a', message, text('another session'))
        talk.receive('a', message)
      }),
    ],
    [
      'ratchet-reflected',
      conversation('A message is sent back to its sender', 'DECRYPTION_FAILED', (talk) => {
        talk.receive('a', talk.send('b', 'ACCEPT'))
        talk.receive('a', talk.send('a', 'hello'))
      }),
    ],
    ['signature', signatureVector('A labelled signature over three parts, one empty', 'ok', 'envelope')],
    [
      'signature-other-label',
      signatureVector('The same signature under another label', 'INVALID_SIGNATURE', 'accept'),
    ],
    ['seal', sealVector('A sealed record opens at its place', 'ok', 'state.db/sessions/1')],
    [
      'seal-other-place',
      sealVector('A sealed record does not open at another place', 'SEAL_BROKEN', 'state.db/sessions/2'),
    ],
  ])
}
