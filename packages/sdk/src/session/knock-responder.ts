/**
 * B's side of the handshake: opens a KNOCK (specification §5.2 and §5.3, DESIGN §7.1); `knock-answer.ts` answers it.
 *
 * `openKnock` checks in this order, cheap before dear, and changes nothing:
 *
 *     size and format -> header not seen before -> exchange key and prekey ids known -> KEM and DH -> AEAD
 *     -> strict JSON and schema -> AMID is the signing key's hash -> signatures (KNOCK, exchange key) -> `to` -> times -> version
 *     -> a ratchet can be begun with RK_A and A's KEM key
 *
 * The caller has checked blocklist and rate limit before (`precheckKnock`). What it must do with the result, in one
 * transaction and before any answer leaves: refuse a (sender, nonce) it has kept, keep nonce and header hash until
 * `forgetAfter`, delete the one-time prekeys named in `used`. Not earlier: a KNOCK that does not open proves nothing, and
 * deleting prekeys for it would let anybody drain them.
 */
import {
  AEAD_NONCE_BYTES,
  aeadDecrypt,
  checkRatchetOffer,
  equalBytes,
  sha256,
  SUITE_X25519_MLKEM768,
  verify,
  x3dhRespond,
  type KeyPair,
  type X3dhKeys,
} from '../crypto/index.ts'
import { amidFromPublicKey, verifyKeyRecord, type Identity } from '../identity/index.ts'
import {
  AgentMeshError,
  amidToBytes,
  CLOCK_SKEW_SECONDS,
  decodeKnockPacket,
  fromBase64,
  Knock,
  KNOCK_TTL_SECONDS,
  MAX_KNOCK_BYTES,
  parseJsonObject,
  parseKey,
  parseTimestamp,
  unsignedBytes,
  validate,
  isAgentMeshError,
  type Amid,
  type ErrorCode,
  type JsonValue,
  type KnockHeader,
  type KnockPacket,
} from '../wire/index.ts'
import { bestCommonVersion, knockAssociatedData, type SessionEnvironment } from './handshake.ts'
import { NO_TRUST, verifyStanding } from './standing.ts'
import type { FalseClaim, VerifiedStanding } from './verified-standing.ts'

/** Our keys that a KNOCK was made for. */
export interface KnockKeys {
  /** One as a rule; several only where the low 32 bits of their sequences are alike. */
  readonly exchangeKeys: readonly KeyPair[]
  readonly signedPrekey: KeyPair
  /** The version list under the signed prekey's signature: what the initiator saw. */
  readonly versions: readonly string[]
  readonly oneTimePrekey?: KeyPair
  readonly kemKey: KeyPair
}

/** Our secrets by what a KNOCK's header names. */
export interface KeyLookup {
  /**
   * All keys of a KNOCK; undefined when one of them was never ours, is used up, or past its grace. Looks for all before it
   * expands any: strangers name what they like.
   */
  find(header: KnockHeader): KnockKeys | undefined
  /** Whether a KNOCK with this header was opened before (SHA-256 of the clear header). */
  headerSeen(hash: Uint8Array): boolean
}

/** A KNOCK that proved who sent it and for whom. Holds secrets; policy has not spoken yet. */
export interface OpenedKnock {
  readonly knock: Knock
  readonly from: Amid
  readonly peerSigningKey: Uint8Array
  readonly version: string
  /** 32 bytes each. */
  readonly nonce: Uint8Array
  readonly knockHash: Uint8Array
  readonly headerHash: Uint8Array
  readonly transcript: Uint8Array
  readonly keys: X3dhKeys
  /** RK_A, and A's fresh ML-KEM key. */
  readonly ratchetKey: Uint8Array
  readonly kemKey: Uint8Array
  /** Milliseconds since the epoch. After `forgetAfter` the KNOCK is refused for its age, so nonce and hash may go. */
  readonly expiresAt: number
  readonly forgetAfter: number
  /** The one-time prekeys this KNOCK consumed. */
  readonly used: { readonly oneTimePrekeyId?: number; readonly oneTimeKemPrekeyId?: number }
  readonly oneTimePrekeyUsed: boolean
  /** What came along with the KNOCK, still sealed: policy decides before anybody opens it (`openOptimistic`). */
  readonly sealedOptimistic?: Uint8Array
  /** EK_A, X25519: what a session certificate is for. */
  readonly ephemeralKey: Uint8Array
  /** What is verified with no registry trusted; `verifyStanding` says more for an owner who trusts some. */
  readonly standing: VerifiedStanding
  readonly falseClaim?: FalseClaim
  readonly findings: Readonly<Record<string, JsonValue>>
}

const SKEW = CLOCK_SKEW_SECONDS * 1000

function knockError(code: ErrorCode, why?: string): AgentMeshError {
  return new AgentMeshError(code, why, { operation: 'open KNOCK' })
}

/**
 * @param packet the relay's opaque payload of type `knock`
 * @param from the sender as the relay authenticated it; a relay that lies makes a KNOCK nobody can open
 * @throws MALFORMED, TOO_LARGE, UNSUPPORTED_VERSION, PREKEY_UNKNOWN, KNOCK_REPLAYED, WEAK_SHARED_SECRET,
 *   DECRYPTION_FAILED, the codes of the strict JSON reader, INVALID_KEY, AMID_MISMATCH, INVALID_SIGNATURE, KEY_EXPIRED,
 *   KNOCK_NOT_FOR_US, KNOCK_EXPIRED; WEAK_SHARED_SECRET and INVALID_KEY as well for what the ratchet cannot begin with
 */
export function openKnock(
  packet: Uint8Array,
  from: Amid,
  own: { readonly identity: Identity; readonly keys: KeyLookup },
  { now }: Pick<SessionEnvironment, 'now'>,
): OpenedKnock {
  const decoded = decodeKnockPacket(packet)
  const { header, headerBytes } = decoded
  if (header.suite !== SUITE_X25519_MLKEM768) throw knockError('UNSUPPORTED_VERSION', 'Unknown suite')

  const headerHash = sha256(headerBytes)
  if (own.keys.headerSeen(headerHash)) throw knockError('KNOCK_REPLAYED')
  const prekeys = own.keys.find(header)
  if (prekeys === undefined) throw knockError('PREKEY_UNKNOWN')

  const { plaintext, keys, transcript } = decrypt(decoded, from, own.identity, prekeys)
  const raw = parseJsonObject(plaintext, MAX_KNOCK_BYTES)
  const knock = validate(Knock, raw, 'open KNOCK')

  const peerSigningKey = parseKey('ed25519', knock.signing_public_key)
  if (amidFromPublicKey(peerSigningKey) !== from || knock.from.amid !== from)
    throw knockError('AMID_MISMATCH')
  const signature = fromBase64(knock.signature)
  if (!verify('knock', peerSigningKey, signature, transcript, headerBytes, unsignedBytes(raw))) {
    throw knockError('INVALID_SIGNATURE')
  }
  const exchangeKey = verifyKeyRecord(knock.exchange_key, peerSigningKey, { kind: 'ik', now })
  if (!equalBytes(exchangeKey, header.identityKey)) {
    throw knockError('INVALID_SIGNATURE', 'The header’s exchange key is not the signed one')
  }

  if (knock.to !== own.identity.amid) throw knockError('KNOCK_NOT_FOR_US')
  const expiresAt = checkTimes(knock, now)
  const version = bestCommonVersion(header.versions, prekeys.versions)
  if (knock.protocol_version !== version) throw knockError('UNSUPPORTED_VERSION')

  const forgetAfter = expiresAt + SKEW
  const kemKey = readOffer(knock, header, { headerHash, forgetAfter })
  const oneTimeKem = header.kemKind === 'one-time'
  const ephemeralKey = header.ephemeralKey.slice()
  return {
    knock,
    from,
    peerSigningKey,
    version,
    nonce: fromBase64(knock.nonce),
    knockHash: sha256(decoded.knockBytes),
    headerHash,
    transcript,
    keys,
    ratchetKey: header.ratchetKey.slice(),
    kemKey,
    expiresAt,
    forgetAfter,
    used: {
      ...(header.oneTimePrekeyId === undefined ? {} : { oneTimePrekeyId: header.oneTimePrekeyId }),
      ...(oneTimeKem ? { oneTimeKemPrekeyId: header.kemPrekeyId } : {}),
    },
    oneTimePrekeyUsed: header.oneTimePrekeyId !== undefined && oneTimeKem,
    ...(decoded.optimisticMessage === undefined
      ? {}
      : { sealedOptimistic: decoded.optimisticMessage.slice() }),
    ephemeralKey,
    ...verifyStanding(knock, { from, ephemeralKey }, NO_TRUST, now),
  }
}

/** A KNOCK that its sender signed, with keys that no ratchet can begin with: it never opens, so its header is to be kept. */
export class UnusableKnock extends AgentMeshError {
  readonly kept: Pick<OpenedKnock, 'headerHash' | 'forgetAfter'>

  constructor(cause: AgentMeshError, kept: UnusableKnock['kept']) {
    super(cause.code, cause.message, { operation: 'open KNOCK', cause })
    this.kept = kept
  }
}

/** The KEM key for the ratchet. @throws UnusableKnock */
function readOffer(knock: Knock, header: KnockHeader, kept: UnusableKnock['kept']): Uint8Array {
  try {
    const kemKey = parseKey('mlkem768', knock.kem_public_key)
    checkRatchetOffer(header.ratchetKey, kemKey)
    return kemKey
  } catch (error) {
    throw isAgentMeshError(error) ? new UnusableKnock(error, kept) : error
  }
}

function decrypt(
  { header, headerBytes, sealedKnock }: KnockPacket,
  from: Amid,
  { amid: self }: Identity,
  { versions, exchangeKeys, ...prekeys }: KnockKeys,
) {
  const place = knockAssociatedData(headerBytes, from, self)
  const context = {
    initiator: amidToBytes(from),
    responder: amidToBytes(self),
    initiatorVersions: header.versions,
    responderVersions: versions,
  }
  const nonce = sealedKnock.subarray(0, AEAD_NONCE_BYTES)
  if (nonce.length !== AEAD_NONCE_BYTES) throw knockError('MALFORMED', 'The sealed KNOCK is cut short')
  const ciphertext = sealedKnock.subarray(AEAD_NONCE_BYTES)
  const { kemKind } = header
  for (const identityKey of exchangeKeys) {
    const { keys, transcript } = x3dhRespond(context, { ...prekeys, kemKind, identityKey }, header)
    const plaintext = aeadDecrypt(keys.knockKey, nonce, ciphertext, place)
    if (plaintext !== null) return { plaintext, keys, transcript }
  }
  throw knockError('DECRYPTION_FAILED')
}

/** The KNOCK's expiry. Its lifetime is bounded, because nonces are kept no longer than that. */
function checkTimes(knock: Knock, now: number): number {
  const sentAt = parseTimestamp(knock.timestamp)
  const expiresAt = parseTimestamp(knock.expires_at)
  if (
    sentAt > now + SKEW ||
    expiresAt <= sentAt ||
    expiresAt > sentAt + KNOCK_TTL_SECONDS * 1000 ||
    expiresAt + SKEW < now
  ) {
    throw knockError('KNOCK_EXPIRED')
  }
  return expiresAt
}
