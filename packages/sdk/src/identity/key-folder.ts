/**
 * Keys at rest that are not an agent's: a folder of sealed files in a `Home`, or one file that goes elsewhere.
 *
 *     <folder>/owner.key     what the rest is sealed under (see owner-key.ts)
 *     <folder>/<name>.key    a secret, sealed for its place
 *     a file alone           { "version": 1, "owner": { ... }, "sealed": base64 }
 */
import { open, seal } from '../crypto/sealing.ts'
import { zero, type RandomBytes } from '../crypto/signing.ts'
import {
  AgentMeshError,
  fromBase64,
  parseJsonObject,
  toBase64,
  utf8Bytes,
  utf8Text,
  validate,
  Type,
} from '../wire/index.ts'
import type { Home } from './home.ts'
import { createOwnerKey, deriveOwnerKey, readOwnerKey } from './owner-key.ts'

const OWNER_FILE = 'owner.key'
const MAX_FILE_BYTES = 4096

export interface KeyProtection {
  readonly random: RandomBytes
  /** Without one, only file modes protect the keys. */
  readonly passphrase?: string
}

export interface KeyFolderContent {
  /** By name, without `.key`. */
  readonly secrets: Readonly<Record<string, Uint8Array>>
  /** Files that are no secret, by full name. */
  readonly files: Readonly<Record<string, Uint8Array>>
}

/** Makes the folder with all that is in it in one step. @throws HOME_EXISTS when it has content, HOME_UNSAFE, HOME_FAILED */
export function writeKeyFolder(
  home: Home,
  folder: string,
  { secrets, files }: KeyFolderContent,
  { random, passphrase }: KeyProtection,
): void {
  if (home.has(folder)) throw new AgentMeshError('HOME_EXISTS', `${home.path} holds keys already`)
  const { ownerKey, file } = createOwnerKey(random, passphrase)
  const key = deriveOwnerKey(ownerKey, 'keys')
  const sealed = Object.entries(secrets).map(([name, secret]) => [
    `${name}.key`,
    seal(key, secret, placeOf(`${folder}/${name}.key`), random),
  ])
  zero(ownerKey, key)
  home.writeFolder(folder, { ...files, ...(Object.fromEntries(sealed) as object), [OWNER_FILE]: file })
}

/**
 * The secrets of a folder that are there, by name.
 *
 * @throws HOME_EMPTY, HOME_UNSAFE, HOME_DAMAGED, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG
 */
export function readKeyFolder(
  home: Home,
  folder: string,
  names: readonly string[],
  passphrase?: string,
): Partial<Record<string, Uint8Array>> {
  const file = home.readFile(`${folder}/${OWNER_FILE}`)
  if (file === undefined) throw new AgentMeshError('HOME_EMPTY', `There are no keys in ${home.path}`)
  const ownerKey = readOwnerKey(file, passphrase)
  const key = deriveOwnerKey(ownerKey, 'keys')
  zero(ownerKey)
  const secrets: Partial<Record<string, Uint8Array>> = {}
  try {
    for (const name of names) {
      const sealed = home.readFile(`${folder}/${name}.key`)
      if (sealed !== undefined) secrets[name] = open(key, sealed, placeOf(`${folder}/${name}.key`))
    }
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', `The key files in ${home.path} do not belong together`, {
      cause,
    })
  } finally {
    zero(key)
  }
  return secrets
}

/**
 * Puts one more secret beside those of a folder, sealed as they are.
 *
 * @throws as `readKeyFolder`
 */
export function addToKeyFolder(
  home: Home,
  folder: string,
  { name, secret }: { readonly name: string; readonly secret: Uint8Array },
  { random, passphrase }: KeyProtection,
): void {
  const file = home.readFile(`${folder}/${OWNER_FILE}`)
  if (file === undefined) throw new AgentMeshError('HOME_EMPTY', `There are no keys in ${home.path}`)
  const ownerKey = readOwnerKey(file, passphrase)
  const key = deriveOwnerKey(ownerKey, 'keys')
  const path = `${folder}/${name}.key`
  home.writeFile(path, seal(key, secret, placeOf(path), random))
  zero(ownerKey, key)
}

const KeyFile = Type.Object({
  version: Type.Literal(1),
  owner: Type.Object({}),
  sealed: Type.String({ maxLength: 1024 }),
})

/** The content of a file that holds one secret and can be opened without another. `use` binds it to what it is for. */
export function encodeKeyFile(
  use: string,
  secret: Uint8Array,
  { random, passphrase }: KeyProtection,
): Uint8Array {
  const { ownerKey, file } = createOwnerKey(random, passphrase)
  const key = deriveOwnerKey(ownerKey, 'keys')
  const sealed = toBase64(seal(key, secret, placeOf(use), random))
  zero(ownerKey, key)
  const content = { version: 1, owner: JSON.parse(utf8Text(file)) as object, sealed }
  return utf8Bytes(`${JSON.stringify(content, null, 2)}\n`)
}

/** @throws HOME_DAMAGED for a file not in form or of another use, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG */
export function readKeyFile(use: string, bytes: Uint8Array, passphrase?: string): Uint8Array {
  let owner: object
  let sealed: Uint8Array
  try {
    const content = validate(KeyFile, parseJsonObject(bytes, MAX_FILE_BYTES))
    owner = content.owner
    sealed = fromBase64(content.sealed)
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', 'The key file is not in form', { cause })
  }
  const ownerKey = readOwnerKey(utf8Bytes(JSON.stringify(owner)), passphrase)
  const key = deriveOwnerKey(ownerKey, 'keys')
  zero(ownerKey)
  try {
    return open(key, sealed, placeOf(use))
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', 'The key file holds another key', { cause })
  } finally {
    zero(key)
  }
}

function placeOf(name: string): Uint8Array {
  return utf8Bytes(`agentmesh/0.2 ${name}`)
}
