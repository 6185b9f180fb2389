/**
 * The Double Ratchet with header encryption and an ML-KEM step (DESIGN 7; Signal's Double Ratchet, revision 3, section 4).
 *
 *     A                                              B
 *     ratchetInitiate                                ratchetRespond
 *     `waiting`                                      `sending`, first chain, with a KEM step
 *            <--------- ACCEPT or REJECT -----------  ratchetEncrypt
 *     ratchetDecrypt: `replying`
 *     ratchetEncrypt: `sending`  ----------------->   ratchetDecrypt: `replying`      and so on, in turns
 *
 *     root', chain key, next header key = HKDF(ikm = DH [|| KEM secret], salt = root, info = "agentmesh/0.2 ratchet root", 96)
 *
 * Where we differ from Signal's text: the KNOCK's receiver sends first; a sending chain begins when something is sent, so
 * that its key is as fresh as the message; the KEM secret enters the root beside the Diffie-Hellman output.
 *
 * The KEM step is a token. Whoever received the last one holds the other's newest KEM key and makes the next, at the start
 * of a sending chain when it is due. Every header of that chain carries the ciphertext and the key for the step after.
 *
 * A step works on the state it is given and returns another; a frame that fails throws and leaves nothing behind.
 */
import { AgentMeshError } from '../wire/errors.ts'
import { KEM_STEP_MESSAGES, KEM_STEP_SECONDS, MAX_CHAIN_MESSAGES, MAX_FORWARD } from './constants.ts'
import {
  AEAD_NONCE_BYTES,
  aeadDecrypt,
  aeadEncrypt,
  concatBytes,
  equalBytes,
  hkdfSha256,
  kemDecapsulate,
  kemEncapsulate,
  kemKeyPair,
  x25519,
  x25519KeyPair,
  zero,
  type KeyPair,
  type RandomBytes,
} from './primitives.ts'
import { decryptionError, keepSkipped, messageKeyOf, nextChainKey, skipTo, stepsTo } from './ratchet-chain.ts'
import {
  decodeFrame,
  decodeHeader,
  encodeFrame,
  encodeHeader,
  type RatchetFrame,
  type RatchetHeader,
} from './ratchet-header.ts'
import type { RatchetState, ReceivingChain } from './ratchet-state.ts'
import type { X3dhKeys } from './x3dh.ts'

export interface RatchetEnvironment {
  readonly random: RandomBytes
  /** Milliseconds since the epoch, an integer. */
  readonly now: number
  /**
   * Whether a message that only its peer can have begun may cost this much, asked once its header is open and before anything
   * is derived for its body: the steps that chains are moved over messages which have not come, and whether a new chain
   * begins, with its Diffie-Hellman and KEM. A message that is the next of its chain costs neither and is not asked about.
   * Default: it may.
   */
  readonly mayDerive?: (steps: number, newChain: boolean) => boolean
}

const NO_DATA = new Uint8Array(0)
const ROOT_LABEL = new TextEncoder().encode('agentmesh/0.2 ratchet root')

/** One turn of the root: from the agreement to the new root, a chain, and the header key of the chain after it. */
function turnRoot(rootKey: Uint8Array, agreement: Uint8Array, kemSecret: Uint8Array) {
  const ikm = concatBytes(agreement, kemSecret)
  const output = hkdfSha256(ikm, rootKey, ROOT_LABEL, 96)
  const turned = {
    rootKey: output.slice(0, 32),
    chainKey: output.slice(32, 64),
    nextHeaderKey: output.slice(64, 96),
  }
  zero(ikm, agreement, kemSecret, output)
  return turned
}

function countMessage(state: RatchetState): number {
  return Math.min(state.kemMessages + 1, KEM_STEP_MESSAGES)
}

function kemStepDue(state: RatchetState, now: number): boolean {
  return state.kemMessages >= KEM_STEP_MESSAGES || now - state.kemAt >= KEM_STEP_SECONDS * 1000
}

/**
 * A's state after sending a KNOCK: `ownRatchet` is RK_A, `ownKem` the fresh ML-KEM key pair whose public key the KNOCK carried.
 * It can receive, and sends only after B's first message.
 */
export function ratchetInitiate(keys: X3dhKeys, ownRatchet: KeyPair, ownKem: KeyPair): RatchetState {
  return {
    rootKey: keys.chainKey,
    nextSendingHeaderKey: keys.initiatorHeaderKey,
    nextReceivingHeaderKey: keys.responderHeaderKey,
    turn: { kind: 'waiting', ownRatchet },
    previousCounter: 0,
    receiving: undefined,
    kemTurn: { kind: 'theirs', ownSecretKey: ownKem.secretKey },
    kemMessages: 0,
    kemAt: 0,
    skipped: [],
  }
}

/**
 * B's state after a KNOCK that verified, with RK_B chosen and the first KEM step made; the next ratchetEncrypt makes the
 * ACCEPT or REJECT. Draws as ratchetEncrypt does, without the nonce. Throws INVALID_KEY and WEAK_SHARED_SECRET for what the
 * KNOCK offered.
 */
export function ratchetRespond(
  keys: X3dhKeys,
  initiatorRatchetKey: Uint8Array,
  initiatorKemKey: Uint8Array,
  environment: RatchetEnvironment,
): RatchetState {
  return startSendingChain(
    {
      rootKey: keys.chainKey,
      nextSendingHeaderKey: keys.responderHeaderKey,
      nextReceivingHeaderKey: keys.initiatorHeaderKey,
      turn: { kind: 'replying', theirRatchetKey: initiatorRatchetKey },
      previousCounter: 0,
      receiving: undefined,
      kemTurn: { kind: 'ours', theirKey: initiatorKemKey },
      kemMessages: KEM_STEP_MESSAGES,
      kemAt: 0,
      skipped: [],
    },
    initiatorRatchetKey,
    environment,
  )
}

const ANY_SCALAR = new Uint8Array(32).fill(0x55)

/**
 * That `ratchetRespond` will take what a KNOCK offers, so that a KNOCK with a bad key is refused like any other that is wrong, and
 * not when its answer is made. Throws INVALID_KEY and WEAK_SHARED_SECRET.
 */
export function checkRatchetOffer(initiatorRatchetKey: Uint8Array, initiatorKemKey: Uint8Array): void {
  // A point of small order gives zero with every clamped scalar; encapsulation checks its key (FIPS 203 7.2).
  zero(x25519(ANY_SCALAR, initiatorRatchetKey))
  zero(kemEncapsulate(initiatorKemKey, ANY_SCALAR).sharedSecret)
}

/** The public ratchet key this side sends under: RK_B right after ratchetRespond, undefined while a reply is due. */
export function ownRatchetKey(state: RatchetState): Uint8Array | undefined {
  return state.turn.kind === 'replying' ? undefined : state.turn.ownRatchet.publicKey
}

/** The peer's public ratchet key: RK_B right after A decrypted the ACCEPT, undefined unless a reply is due. */
export function theirRatchetKey(state: RatchetState): Uint8Array | undefined {
  return state.turn.kind === 'replying' ? state.turn.theirRatchetKey : undefined
}

/** A secret for the peer's newest KEM key, and our own key for the step after. Draws 32 bytes of coins and a 64-byte seed. */
function makeKemStep(theirKey: Uint8Array, random: RandomBytes) {
  const coins = random(32)
  const { ciphertext, sharedSecret } = kemEncapsulate(theirKey, coins)
  const seed = random(64)
  const own = kemKeyPair(seed)
  zero(coins, seed)
  return { sharedSecret, ownSecretKey: own.secretKey, sent: { ciphertext, publicKey: own.publicKey } }
}

/** Draws 32 bytes for the ratchet key, then what the KEM step draws when one is due. */
function startSendingChain(
  state: RatchetState,
  peerRatchetKey: Uint8Array,
  { random, now }: RatchetEnvironment,
): RatchetState {
  const { kemTurn } = state
  const ownRatchet = x25519KeyPair(random(32))
  const agreement = x25519(ownRatchet.secretKey, peerRatchetKey)
  const kem =
    kemTurn.kind === 'ours' && kemStepDue(state, now) ? makeKemStep(kemTurn.theirKey, random) : undefined
  const { rootKey, chainKey, nextHeaderKey } = turnRoot(
    state.rootKey,
    agreement,
    kem?.sharedSecret ?? NO_DATA,
  )
  return {
    ...state,
    rootKey,
    nextSendingHeaderKey: nextHeaderKey,
    turn: {
      kind: 'sending',
      ownRatchet,
      chain: { chainKey, headerKey: state.nextSendingHeaderKey, counter: 0, kemStep: kem?.sent },
    },
    ...(kem === undefined
      ? {}
      : { kemTurn: { kind: 'theirs', ownSecretKey: kem.ownSecretKey }, kemMessages: 0, kemAt: now }),
  }
}

/**
 * Encrypts the next message. The returned state must be stored before the message leaves: a state used twice encrypts two
 * messages under one key. Draws 24 bytes for the nonce, after what a new sending chain draws.
 * Throws RATCHET_NOT_READY before the first message was received, RATCHET_EXHAUSTED at the end of a chain.
 */
export function ratchetEncrypt(
  state: RatchetState,
  plaintext: Uint8Array,
  associatedData: Uint8Array,
  environment: RatchetEnvironment,
): { readonly state: RatchetState; readonly message: Uint8Array } {
  const operation = 'encrypt a ratchet message'
  const ready =
    state.turn.kind === 'replying' ? startSendingChain(state, state.turn.theirRatchetKey, environment) : state
  const { turn } = ready
  if (turn.kind !== 'sending') throw new AgentMeshError('RATCHET_NOT_READY', undefined, { operation })
  const { chain } = turn
  if (chain.counter >= MAX_CHAIN_MESSAGES)
    throw new AgentMeshError('RATCHET_EXHAUSTED', undefined, { operation })
  const nonce = environment.random(AEAD_NONCE_BYTES)
  const header = encodeHeader({
    ratchetKey: turn.ownRatchet.publicKey,
    previousCounter: ready.previousCounter,
    counter: chain.counter,
    kemStep: chain.kemStep,
  })
  const sealedHeader = aeadEncrypt(chain.headerKey, nonce, header, NO_DATA)
  const messageKey = messageKeyOf(chain.chainKey)
  const ciphertext = aeadEncrypt(messageKey, nonce, plaintext, concatBytes(associatedData, sealedHeader))
  zero(messageKey)
  const chainKey = nextChainKey(chain.chainKey)
  return {
    state: {
      ...ready,
      turn: { ...turn, chain: { ...chain, chainKey, counter: chain.counter + 1 } },
      kemMessages: countMessage(ready),
    },
    message: encodeFrame({ nonce, sealedHeader, ciphertext }),
  }
}

function openHeader(headerKey: Uint8Array, frame: RatchetFrame): RatchetHeader | null {
  const header = aeadDecrypt(headerKey, frame.nonce, frame.sealedHeader, NO_DATA)
  return header === null ? null : decodeHeader(header)
}

/** Throws DECRYPTION_FAILED. */
function openBody(messageKey: Uint8Array, frame: RatchetFrame, associatedData: Uint8Array): Uint8Array {
  const plaintext = aeadDecrypt(
    messageKey,
    frame.nonce,
    frame.ciphertext,
    concatBytes(associatedData, frame.sealedHeader),
  )
  if (plaintext === null) throw decryptionError('DECRYPTION_FAILED')
  return plaintext
}

interface Decrypted {
  readonly state: RatchetState
  readonly plaintext: Uint8Array
}

/** A message whose place in its chain was passed. Throws RATCHET_DUPLICATE when its key was used or dropped. */
function decryptSkipped(
  state: RatchetState,
  headerKey: Uint8Array,
  counter: number,
  frame: RatchetFrame,
  associatedData: Uint8Array,
): Decrypted {
  const index = state.skipped.findIndex((chain) => equalBytes(chain.headerKey, headerKey))
  const chain = state.skipped[index]
  const messageKey = chain?.messageKeys.get(counter)
  if (chain === undefined || messageKey === undefined) throw decryptionError('RATCHET_DUPLICATE')
  const plaintext = openBody(messageKey, frame, associatedData)
  const messageKeys = new Map(chain.messageKeys)
  messageKeys.delete(counter)
  const rest = messageKeys.size === 0 ? [] : [{ ...chain, messageKeys }]
  return {
    plaintext,
    state: {
      ...state,
      kemMessages: countMessage(state),
      skipped: [...state.skipped.slice(0, index), ...rest, ...state.skipped.slice(index + 1)],
    },
  }
}

/** A message at or ahead of the current place of `receiving`, which `state` may not hold yet. */
function decryptAhead(
  state: RatchetState,
  receiving: ReceivingChain,
  counter: number,
  frame: RatchetFrame,
  associatedData: Uint8Array,
): Decrypted {
  const { chain, passed } = skipTo(receiving, counter)
  const messageKey = messageKeyOf(chain.chainKey)
  const plaintext = openBody(messageKey, frame, associatedData)
  zero(messageKey)
  return {
    plaintext,
    state: {
      ...state,
      receiving: { ...chain, chainKey: nextChainKey(chain.chainKey), counter: counter + 1 },
      kemMessages: countMessage(state),
      skipped: keepSkipped(state.skipped, chain.headerKey, passed),
    },
  }
}

/** Throws RATCHET_BUDGET. */
function askToDerive({ mayDerive }: RatchetEnvironment, steps: number, newChain: boolean): void {
  if (mayDerive?.(steps, newChain) === false) throw decryptionError('RATCHET_BUDGET')
}

/** The state with the peer's new receiving chain opened, and the rest of its old chain kept. */
function receiveNewChain(
  state: RatchetState,
  header: RatchetHeader,
  environment: RatchetEnvironment,
): RatchetState & {
  readonly receiving: ReceivingChain
} {
  const { turn, kemTurn } = state
  const { kemStep } = header
  // Nobody can follow our ratchet key before it was sent; and B's first chain always makes a KEM step.
  if (turn.kind === 'replying') throw decryptionError('MALFORMED', 'The peer began two chains in a row')
  if (turn.kind === 'waiting' && kemStep === undefined) {
    throw decryptionError('MALFORMED', 'The first chain makes no KEM step')
  }
  if (kemStep !== undefined && kemTurn.kind !== 'theirs') {
    throw decryptionError('MALFORMED', 'The peer made a KEM step out of turn')
  }
  // Before the old chain is moved for a message that is refused in the new one.
  if (header.counter > MAX_FORWARD) throw decryptionError('RATCHET_GAP')
  const missed = state.receiving === undefined ? 0 : stepsTo(state.receiving, header.previousCounter)
  askToDerive(environment, missed + header.counter, true)
  const old = state.receiving === undefined ? undefined : skipTo(state.receiving, header.previousCounter)
  const kemSecret =
    kemStep !== undefined && kemTurn.kind === 'theirs'
      ? kemDecapsulate(kemTurn.ownSecretKey, kemStep.ciphertext)
      : NO_DATA
  const { rootKey, chainKey, nextHeaderKey } = turnRoot(
    state.rootKey,
    x25519(turn.ownRatchet.secretKey, header.ratchetKey),
    kemSecret,
  )
  return {
    ...state,
    rootKey,
    nextReceivingHeaderKey: nextHeaderKey,
    turn: { kind: 'replying', theirRatchetKey: header.ratchetKey },
    previousCounter: turn.kind === 'sending' ? turn.chain.counter : 0,
    receiving: { chainKey, headerKey: state.nextReceivingHeaderKey, counter: 0 },
    skipped: old === undefined ? state.skipped : keepSkipped(state.skipped, old.chain.headerKey, old.passed),
    ...(kemStep === undefined
      ? {}
      : { kemTurn: { kind: 'ours', theirKey: kemStep.publicKey }, kemMessages: 0, kemAt: environment.now }),
  }
}

/**
 * Decrypts one message, in whatever order it comes. The state given stays as it is.
 * Throws DECRYPTION_FAILED when no key fits or anything was changed, RATCHET_DUPLICATE when the message's key was used or
 * dropped, RATCHET_GAP when it is more than 2,000 ahead, RATCHET_BUDGET when it may not cost what it would, MALFORMED, and WEAK_SHARED_SECRET or RATCHET_EXHAUSTED for a peer
 * that breaks the protocol.
 */
export function ratchetDecrypt(
  state: RatchetState,
  message: Uint8Array,
  associatedData: Uint8Array,
  environment: RatchetEnvironment,
): Decrypted {
  const frame = decodeFrame(message)
  const { receiving } = state
  if (receiving !== undefined) {
    const header = openHeader(receiving.headerKey, frame)
    if (header !== null) {
      if (header.counter < receiving.counter)
        return decryptSkipped(state, receiving.headerKey, header.counter, frame, associatedData)
      const steps = stepsTo(receiving, header.counter)
      if (steps > 0) askToDerive(environment, steps, false)
      return decryptAhead(state, receiving, header.counter, frame, associatedData)
    }
  }
  for (const { headerKey } of state.skipped) {
    const header = openHeader(headerKey, frame)
    if (header !== null) return decryptSkipped(state, headerKey, header.counter, frame, associatedData)
  }
  const header = openHeader(state.nextReceivingHeaderKey, frame)
  if (header === null) throw decryptionError('DECRYPTION_FAILED')
  const next = receiveNewChain(state, header, environment)
  return decryptAhead(next, next.receiving, header.counter, frame, associatedData)
}
