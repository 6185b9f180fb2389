/**
 * The DID document of an agent (specification §2.3), made from its signed record.
 *
 *     publicKeyMultibase = "z" || base58btc(multicodec prefix || public key)
 *     multicodec prefix  = ed 01 (ed25519-pub), ec 01 (x25519-pub)
 */
import {
  AgentMeshError,
  concatBytes,
  fromBase58,
  parseKey,
  toBase58,
  type AgentRecord,
  type DidDocument,
  type Registration,
} from '../wire/index.ts'
import { didFromAmid } from './amid.ts'

const MULTICODEC = {
  ed25519: Uint8Array.of(0xed, 0x01),
  x25519: Uint8Array.of(0xec, 0x01),
} as const
const PUBLIC_KEY_BYTES = 32
/** `z` and the longest base58 spelling of 34 bytes. */
const MAX_MULTIBASE_LENGTH = 48

const CONTEXTS = [
  'https://www.w3.org/ns/did/v1',
  'https://w3id.org/security/suites/ed25519-2020/v1',
  'https://w3id.org/security/suites/x25519-2020/v1',
]

export function toMultikey(algorithm: keyof typeof MULTICODEC, publicKey: Uint8Array): string {
  return 'z' + toBase58(concatBytes(MULTICODEC[algorithm], publicKey))
}

/** @throws INVALID_KEY unless the text is the base58btc multibase of a 32-byte key of that algorithm. */
export function fromMultikey(algorithm: keyof typeof MULTICODEC, text: string): Uint8Array {
  // Base58 decoding takes quadratic time, so the length comes first.
  if (!text.startsWith('z') || text.length > MAX_MULTIBASE_LENGTH) throw new AgentMeshError('INVALID_KEY')
  let bytes: Uint8Array
  try {
    bytes = fromBase58(text.slice(1))
  } catch (cause) {
    throw new AgentMeshError('INVALID_KEY', undefined, { cause })
  }
  const [first, second] = MULTICODEC[algorithm]
  if (bytes.length !== 2 + PUBLIC_KEY_BYTES || bytes[0] !== first || bytes[1] !== second) {
    throw new AgentMeshError('INVALID_KEY')
  }
  return bytes.slice(2)
}

/** @param record a verified record. @throws INVALID_KEY when it holds no usable keys. */
export function didDocument(record: Registration | AgentRecord): DidDocument {
  const id = didFromAmid(record.amid)
  return {
    '@context': CONTEXTS,
    id,
    verificationMethod: [
      {
        id: `${id}#signing-key`,
        type: 'Ed25519VerificationKey2020',
        controller: id,
        publicKeyMultibase: toMultikey('ed25519', parseKey('ed25519', record.public_keys.signing_public_key)),
      },
    ],
    keyAgreement: [
      {
        id: `${id}#exchange-key`,
        type: 'X25519KeyAgreementKey2020',
        controller: id,
        publicKeyMultibase: toMultikey('x25519', parseKey('x25519', record.public_keys.exchange_key.key)),
      },
    ],
    service: [{ id: `${id}#agentmesh`, type: 'AgentMeshEndpoint', serviceEndpoint: record.relay_endpoint }],
  }
}
