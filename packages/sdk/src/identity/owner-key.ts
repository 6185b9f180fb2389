/**
 * The owner key: 32 random bytes that everything at rest is sealed under (DESIGN §9), in `keys/owner.key`.
 *
 *     { "version": 1, "protection": "file", "key": base64 }
 *     { "version": 1, "protection": "passphrase", "salt": base64, "ops": n, "memory": bytes, "sealed": base64 }
 *
 * By default the file's mode is the protection. With a passphrase, the key is sealed under Argon2id of it, so that another
 * passphrase needs only this file written anew. Keys for single uses are derived from the owner key, each under its label.
 */
import { open, passphraseKey, seal, type PassphraseCost } from '../crypto/sealing.ts'
import { hkdfSha256, zero, type RandomBytes } from '../crypto/signing.ts'
import type { Static } from 'typebox'
import {
  AgentMeshError,
  Base64Of,
  fromBase64,
  parseJsonObject,
  toBase64,
  utf8Bytes,
  validate,
  Type,
} from '../wire/index.ts'

const OWNER_KEY_BYTES = 32
const SALT_BYTES = 16
const SEALED_BYTES = 1 + 24 + OWNER_KEY_BYTES + 16
const PLACE = utf8Bytes('agentmesh/0.2 keys/owner.key')
const MAX_FILE_BYTES = 1024
/** RFC 9106 §4, second recommended option, on one lane. */
const COST: PassphraseCost = { ops: 3, memory: 64 * 1024 * 1024 }
/** What a changed file may make us spend. */
const MAX_OPS = 16
const MAX_MEMORY = 512 * 1024 * 1024

const OwnerKeyFile = Type.Union([
  Type.Object({
    version: Type.Literal(1),
    protection: Type.Literal('file'),
    key: Base64Of(OWNER_KEY_BYTES),
  }),
  Type.Object({
    version: Type.Literal(1),
    protection: Type.Literal('passphrase'),
    salt: Base64Of(SALT_BYTES),
    ops: Type.Integer({ minimum: 1, maximum: MAX_OPS }),
    memory: Type.Integer({ minimum: 8192, maximum: MAX_MEMORY }),
    sealed: Base64Of(SEALED_BYTES),
  }),
])
type OwnerKeyFile = Static<typeof OwnerKeyFile>

/** A fresh owner key and the content of its file. */
export function createOwnerKey(
  random: RandomBytes,
  passphrase?: string,
): { ownerKey: Uint8Array; file: Uint8Array } {
  const ownerKey = random(OWNER_KEY_BYTES)
  return { ownerKey, file: encodeOwnerKey(ownerKey, random, passphrase) }
}

function encodeOwnerKey(ownerKey: Uint8Array, random: RandomBytes, passphrase?: string): Uint8Array {
  let content: OwnerKeyFile
  if (passphrase === undefined) {
    content = { version: 1, protection: 'file', key: toBase64(ownerKey) }
  } else {
    const salt = random(SALT_BYTES)
    const key = passphraseKey(passphrase, salt, COST)
    const sealed = toBase64(seal(key, ownerKey, PLACE, random))
    zero(key)
    content = { version: 1, protection: 'passphrase', salt: toBase64(salt), ...COST, sealed }
  }
  return utf8Bytes(`${JSON.stringify(content)}\n`)
}

/** @throws HOME_DAMAGED for a file not in form, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG */
export function readOwnerKey(file: Uint8Array, passphrase?: string): Uint8Array {
  let content: OwnerKeyFile
  try {
    content = validate(OwnerKeyFile, parseJsonObject(file, MAX_FILE_BYTES))
    if (content.protection === 'file') return fromBase64(content.key)
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', 'keys/owner.key is not in form', { cause })
  }
  if (passphrase === undefined) throw new AgentMeshError('PASSPHRASE_REQUIRED')
  const key = passphraseKey(passphrase, fromBase64(content.salt), content)
  try {
    return open(key, fromBase64(content.sealed), PLACE)
  } catch (cause) {
    throw new AgentMeshError('PASSPHRASE_WRONG', undefined, { cause })
  } finally {
    zero(key)
  }
}

/** A 32-byte key for one use of the owner key. */
export function deriveOwnerKey(ownerKey: Uint8Array, use: 'keys' | 'storage'): Uint8Array {
  return hkdfSha256(ownerKey, new Uint8Array(0), utf8Bytes(`agentmesh/0.2 home ${use}`), 32)
}
