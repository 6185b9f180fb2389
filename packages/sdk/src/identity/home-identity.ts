/**
 * An agent's key files in its home (specification §2.1, DESIGN §4, §9):
 *
 *     keys/identity.json   public: the specification's object, and the recovery key's public half
 *     keys/owner.key       what the rest is sealed under (see owner-key.ts)
 *     keys/signing.key     Ed25519 seed, 32 bytes, sealed for its place
 *
 * All three appear at once or not at all. The exchange key rotates weekly and lives with the prekeys in the agent's state;
 * `identity.json` shows the current public half once there is one. The recovery key's secret is never written.
 */
import type { Static } from 'typebox'
import { open, seal } from '../crypto/sealing.ts'
import { ed25519KeyPair, zero, type RandomBytes } from '../crypto/signing.ts'
import {
  AgentMeshError,
  AmidText,
  ExchangeKeyText,
  formatKey,
  formatTimestamp,
  parseJsonObject,
  parseKey,
  parseTimestamp,
  PeerText,
  SigningKeyText,
  Timestamp,
  utf8Bytes,
  validate,
  Type,
} from '../wire/index.ts'
import { identityFromKeyPair, type Identity } from './amid.ts'
import type { Home } from './home.ts'
import { createOwnerKey, deriveOwnerKey, readOwnerKey } from './owner-key.ts'
import { newRecoveryWords, recoveryKeyPair } from './recovery.ts'

const IDENTITY_FILE = 'keys/identity.json'
const OWNER_FILE = 'keys/owner.key'
const SIGNING_FILE = 'keys/signing.key'
const SIGNING_PLACE = utf8Bytes('agentmesh/0.2 keys/signing.key')
const MAX_IDENTITY_BYTES = 16 * 1024

export const PublicIdentity = Type.Object(
  {
    amid: AmidText,
    signing_public_key: SigningKeyText,
    exchange_public_key: Type.Optional(ExchangeKeyText),
    recovery_public_key: SigningKeyText,
    created_at: Timestamp,
    framework: Type.Optional(PeerText(64)),
    framework_version: Type.Optional(PeerText(32)),
  },
  { $id: 'agentmesh/identity', description: 'keys/identity.json (specification §2.1)' },
)
export type PublicIdentity = Static<typeof PublicIdentity>

/** An identity with what its home keeps beside it. */
export interface HomeIdentity extends Identity {
  /** 32 bytes; seals the rows of `state.db`, transcripts and exports. */
  readonly storageKey: Uint8Array
  /** Ed25519, 32 bytes. */
  readonly recoveryPublicKey: Uint8Array
  /** Milliseconds since the epoch. */
  readonly createdAt: number
}

export interface CreateIdentityOptions {
  readonly random: RandomBytes
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Without one, only file modes protect the keys. */
  readonly passphrase?: string
  readonly framework?: string
  readonly frameworkVersion?: string
}

/**
 * Makes the identity of a home. The recovery words exist nowhere else: the caller shows them once.
 *
 * @throws HOME_EXISTS when the home has keys, HOME_UNSAFE
 */
export function createIdentity(
  home: Home,
  options: CreateIdentityOptions,
): { identity: HomeIdentity; recoveryWords: string } {
  if (home.has('keys')) throw new AgentMeshError('HOME_EXISTS', `${home.path} holds keys already`)
  const { random, now } = options
  const seed = random(32)
  const recoveryWords = newRecoveryWords(random)
  const recoveryPublicKey = recoveryKeyPair(recoveryWords).publicKey
  const { ownerKey, file: ownerFile } = createOwnerKey(random, options.passphrase)
  const identity = identityFromKeyPair(ed25519KeyPair(seed))

  const content = validate(PublicIdentity, {
    amid: identity.amid,
    signing_public_key: formatKey('ed25519', identity.signing.publicKey),
    recovery_public_key: formatKey('ed25519', recoveryPublicKey),
    created_at: formatTimestamp(now),
    ...(options.framework === undefined ? {} : { framework: options.framework }),
    ...(options.frameworkVersion === undefined ? {} : { framework_version: options.frameworkVersion }),
  })
  const keysKey = deriveOwnerKey(ownerKey, 'keys')
  home.writeFolder('keys', {
    'identity.json': encodeIdentityFile(content),
    'owner.key': ownerFile,
    'signing.key': seal(keysKey, seed, SIGNING_PLACE, random),
  })
  const storageKey = deriveOwnerKey(ownerKey, 'storage')
  zero(seed, keysKey, ownerKey)
  return { identity: { ...identity, storageKey, recoveryPublicKey, createdAt: now }, recoveryWords }
}

/**
 * Opens the identity of a home.
 *
 * @throws HOME_EMPTY, HOME_UNSAFE, HOME_DAMAGED (a file is missing, incomplete, or of another identity),
 *   PASSPHRASE_REQUIRED, PASSPHRASE_WRONG
 */
export function openIdentity(home: Home, options: { readonly passphrase?: string } = {}): HomeIdentity {
  const content = readPublicIdentity(home)
  const sealedSeed = required(home, SIGNING_FILE)
  const ownerKey = readOwnerKey(required(home, OWNER_FILE), options.passphrase)
  const keysKey = deriveOwnerKey(ownerKey, 'keys')
  const storageKey = deriveOwnerKey(ownerKey, 'storage')
  zero(ownerKey)
  try {
    const seed = open(keysKey, sealedSeed, SIGNING_PLACE)
    const identity = identityFromKeyPair(ed25519KeyPair(seed))
    zero(seed)
    if (
      identity.amid !== content.amid ||
      formatKey('ed25519', identity.signing.publicKey) !== content.signing_public_key
    ) {
      throw new AgentMeshError('AMID_MISMATCH')
    }
    return {
      ...identity,
      storageKey,
      recoveryPublicKey: parseKey('ed25519', content.recovery_public_key),
      createdAt: parseTimestamp(content.created_at),
    }
  } catch (cause) {
    throw damaged('The key files do not belong together', cause)
  } finally {
    zero(keysKey)
  }
}

/** What a home says about its agent; needs no passphrase. @throws HOME_EMPTY, HOME_UNSAFE, HOME_DAMAGED */
export function readPublicIdentity(home: Home): PublicIdentity {
  if (!home.has('keys')) throw new AgentMeshError('HOME_EMPTY', `There is no agent in ${home.path}`)
  const file = required(home, IDENTITY_FILE)
  try {
    return validate(PublicIdentity, parseJsonObject(file, MAX_IDENTITY_BYTES))
  } catch (cause) {
    throw damaged(`${IDENTITY_FILE} is not in form`, cause)
  }
}

/** Shows another exchange key in `identity.json`. @throws as `readPublicIdentity` */
export function writeExchangePublicKey(home: Home, exchangePublicKey: Uint8Array): void {
  const content = { ...readPublicIdentity(home), exchange_public_key: formatKey('x25519', exchangePublicKey) }
  home.writeFile(IDENTITY_FILE, encodeIdentityFile(content))
}

function encodeIdentityFile(content: PublicIdentity): Uint8Array {
  return utf8Bytes(`${JSON.stringify(content, null, 2)}\n`)
}

function required(home: Home, name: string): Uint8Array {
  const bytes = home.readFile(name)
  if (bytes === undefined) throw damaged(`${name} is missing`)
  return bytes
}

function damaged(message: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('HOME_DAMAGED', message, { operation: 'open the identity', cause })
}
