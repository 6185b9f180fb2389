/**
 * Targets of the identity layer: signed records, signed requests, recovery words, key files. Dressed inputs carry a valid
 * signature by the key they name, as those of a hostile agent would.
 */
import {
  recoveryKeyPair,
  amidFromDid,
  didFromAmid,
  readPublicIdentity,
  signRequest,
  signSuccession,
  signatureBase,
  verifyAgentRecord,
  verifyBundle,
  verifyKeyRecord,
  verifyRegistration,
  verifyRequest,
  verifySuccession,
  fromMultikey,
  toMultikey,
  type Home,
  type Identity,
} from '@agentmesh/sdk/identity'
import { ed25519SignRaw, sign, type SigningLabel } from '@agentmesh/sdk/crypto/signing'
import {
  canonicalBytes,
  formatTimestamp,
  parseJsonObject,
  toBase64,
  UNSIGNED_RECORD_FIELDS,
  unsignedBytes,
  utf8Bytes,
  type Amid,
  type ErrorCode,
  type KeyKind,
} from '@agentmesh/sdk/wire'
import {
  NOW,
  testBundle,
  testIdentity,
  testKeys,
  testRandom,
  testRegistration,
} from '../../../packages/sdk/src/identity/test-support.ts'
import { createOwnerKey, readOwnerKey } from '../../../packages/sdk/src/identity/owner-key.ts'
import { JSON_REFUSALS, textOf, type Target, type TargetMaker } from '../target.ts'
import { identityEdges, wireSeeds } from '../vectors.ts'

const LIMIT = 256 * 1024
const agent = testIdentity('fuzzed')
const RECORD_REFUSALS = [
  ...JSON_REFUSALS,
  'INVALID_KEY',
  'AMID_MISMATCH',
  'INVALID_SIGNATURE',
  'KEY_EXPIRED',
] as const

type Fields = Record<string, unknown>

/** The JSON with a signature that holds over it; what is no JSON object stays as it is. */
function signedAgain(input: Uint8Array, resign: (fields: Fields) => void): Uint8Array {
  let fields: Fields
  try {
    fields = JSON.parse(textOf(input)) as Fields
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) return input
    resign(fields)
    return utf8Bytes(JSON.stringify(fields))
  } catch {
    return input
  }
}

function signRecord(
  label: SigningLabel,
  fields: Fields,
  unsigned: readonly string[] = [],
  by: Identity = agent,
): void {
  fields['signature'] = toBase64(sign(label, by.signing.secretKey, unsignedBytes(fields, unsigned)))
}

const KINDS: readonly KeyKind[] = ['ik', 'spk', 'opk', 'pq-last', 'pq-one']

/** Signs under the label the record's own kind names, where it names one. */
function signKey(value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  const fields = value as Fields
  const kind = KINDS.find((candidate) => candidate === fields['kind'])
  if (kind !== undefined) signRecord(kind, fields)
}

function keyRecords(): Target {
  const keys = testKeys(agent)
  const records = [keys.exchange, keys.signed, keys.lastResort, keys.oneTime[0]!, keys.oneTimeKem[0]!]
  return {
    name: 'signed-key',
    form: 'json',
    seeds: records.map(({ record }) => canonicalBytes(record)),
    edges: [...identityEdges('key-record', 'record'), ...wireSeeds('signed-key').edges],
    refusals: RECORD_REFUSALS,
    dress: (input) => signedAgain(input, signKey),
    read(input) {
      const raw = parseJsonObject(input, LIMIT)
      const kind = KINDS.find((candidate) => candidate === raw['kind']) ?? 'ik'
      verifyKeyRecord(raw, agent.signing.publicKey, { kind, now: NOW })
      return raw
    },
    write: (raw: object) => canonicalBytes(raw),
  }
}

function bundles(): Target {
  const { one_time_prekey: _, ...withoutOneTime } = testBundle(agent)
  const lastResort = { ...withoutOneTime, kem_prekey: testKeys(agent).lastResort.record }
  return {
    name: 'bundle',
    form: 'json',
    seeds: [testBundle(agent), lastResort].map((bundle) => canonicalBytes(bundle)),
    edges: [...identityEdges('bundle', 'bundle'), ...wireSeeds('bundle').edges],
    refusals: RECORD_REFUSALS,
    dress: (input) => signedAgain(input, (fields) => Object.values(fields).forEach(signKey)),
    read(input) {
      const raw = parseJsonObject(input, LIMIT)
      verifyBundle(raw, agent.amid, NOW)
      return raw
    },
    write: (raw: object) => canonicalBytes(raw),
  }
}

function signRegistrationAgain(fields: Fields): void {
  const keys = fields['public_keys']
  if (typeof keys === 'object' && keys !== null) signKey((keys as Fields)['exchange_key'])
  signRecord('record', fields, UNSIGNED_RECORD_FIELDS)
}

const REGISTRATIONS = [
  testRegistration(agent),
  testRegistration(agent, {
    capabilities: [
      'travel',
      { category: 'x-acme/parts', actions: ['buy', 'sell'], pricing: { model: 'free' } },
    ],
    display_name: 'Näme',
    framework: 'f',
    direct_endpoint: null,
    p2p_capable: true,
  }),
]

function registrations(): Target {
  return {
    name: 'registration',
    form: 'json',
    seeds: REGISTRATIONS.map((registration) => canonicalBytes(registration)),
    edges: [...identityEdges('registration', 'registration'), ...wireSeeds('registration').edges],
    refusals: RECORD_REFUSALS,
    dress: (input) => signedAgain(input, signRegistrationAgain),
    read: (input) => verifyRegistration(parseJsonObject(input, LIMIT), NOW),
    write: (raw: object) => canonicalBytes(raw),
  }
}

const ANSWER = {
  tier: 2,
  presence: 'online',
  online: true,
  last_seen: formatTimestamp(NOW),
  registered_at: formatTimestamp(NOW),
  reputation_score: 0.5,
} as const
export const AGENT_RECORDS = REGISTRATIONS.map((registration) =>
  canonicalBytes({ ...registration, ...ANSWER }),
)

function agentRecords(): Target {
  return {
    name: 'agent-record',
    form: 'json',
    seeds: AGENT_RECORDS,
    edges: wireSeeds('agent-record').edges,
    refusals: RECORD_REFUSALS,
    dress: (input) => signedAgain(input, signRegistrationAgain),
    read: (input) => verifyAgentRecord(parseJsonObject(input, LIMIT)),
    write: (raw: object) => canonicalBytes(raw),
  }
}

function successions(): Target {
  const recovery = testIdentity('recovery')
  const next = testIdentity('successor')
  return {
    name: 'succession',
    form: 'json',
    seeds: [canonicalBytes(signSuccession(recovery.signing, agent.amid, next.amid, NOW))],
    edges: identityEdges('succession', 'statement'),
    refusals: RECORD_REFUSALS,
    dress: (input) => signedAgain(input, (fields) => signRecord('succession', fields, [], recovery)),
    read: (input) => verifySuccession(parseJsonObject(input, LIMIT), recovery.signing.publicKey, NOW),
    write: (raw: object) => canonicalBytes(raw),
  }
}

const MAX_HEADER_LINES = 200

/** A request as text: `METHOD target`, headers a line, an empty line, the body. A header that comes twice is a list. */
export function readRequestText(input: Uint8Array) {
  const end = input.findIndex((byte, index) => byte === 0x0a && input[index + 1] === 0x0a)
  const head = textOf(end < 0 ? input : input.subarray(0, end)).split('\n', MAX_HEADER_LINES)
  const [method = '', target = ''] = (head[0] ?? '').split(' ')
  const headers: Record<string, string | string[]> = {}
  for (const line of head.slice(1)) {
    const at = line.indexOf(':')
    const name = line.slice(0, Math.max(at, 0)).trim().toLowerCase()
    const value = line.slice(at + 1)
    const before = Object.hasOwn(headers, name) ? headers[name] : undefined
    const all = before === undefined ? value : [before, value].flat()
    Object.defineProperty(headers, name, { value: all, enumerable: true, configurable: true, writable: true })
  }
  return {
    method,
    target,
    headers,
    authority: 'registry.example',
    body: end < 0 ? new Uint8Array(0) : input.subarray(end + 2),
  }
}

function requestText(
  method: string,
  target: string,
  headers: Readonly<Record<string, unknown>>,
  body = '',
): Uint8Array {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}`)
  return utf8Bytes([`${method} ${target}`, ...lines, '', body].join('\n'))
}

function signedRequest(method: string, target: string, body?: string): Uint8Array {
  const random = testRandom(`request ${target}`)
  const request = {
    method,
    url: `https://registry.example${target}`,
    ...(body === undefined ? {} : { body: utf8Bytes(body) }),
  }
  return requestText(method, target, signRequest(request, agent, { now: NOW, nonce: random(16) }), body)
}

/** Signs what the `signature-input` header says it covers, whatever that is. */
function signRequestAgain(input: Uint8Array): Uint8Array {
  try {
    const request = readRequestText(input)
    const given = request.headers['signature-input']
    if (typeof given !== 'string') return input
    const parameters = given.trim().slice('agentmesh='.length)
    const components = [...(/^\(([^)]*)\)/.exec(parameters)?.[1] ?? '').matchAll(/"([^"]*)"/g)].map(
      ([, name]) => name ?? '',
    )
    const signature = ed25519SignRaw(agent.signing.secretKey, signatureBase(request, components, parameters))
    const headers = { ...request.headers, signature: `agentmesh=:${toBase64(signature)}:` }
    return requestText(request.method, request.target, headers, textOf(request.body))
  } catch {
    return input
  }
}

function requests(): Target {
  const refusals: ErrorCode[] = ['INVALID_SIGNATURE', 'SIGNATURE_EXPIRED', 'AMID_MISMATCH', 'INVALID_KEY']
  return {
    name: 'http-signature',
    form: 'text',
    seeds: [
      signedRequest('GET', '/v1/registry/prekeys'),
      signedRequest('PUT', '/v1/registry/presence?verbose=1&verbose', '{"state":"online"}'),
      signedRequest('POST', '/v1/registry/prekeys/fetch', '{}'),
    ],
    words: ['"@method"', '"@path"', '"@query"', '"content-digest"', '"host"', '"@status"', ';created=', ';expires=', '999999999999',
      ';nonce="', ';keyid="', ';alg="ed25519"', ';tag="agentmesh/0.2"', ';a="', '"', '(', ')', ' ', ';', '=', ':', '\n', '\n\n', ', ',
      'agentmesh=', 'sig1=()', 'signature: ', 'signature-input: ', 'content-digest: ', '?', '//', '%2f', '\r', '\0', 'é'], // prettier-ignore
    refusals,
    dress: signRequestAgain,
    read: (input) => verifyRequest(readRequestText(input), NOW),
  }
}

function recoveryWords(): Target {
  const good = identityEdges('recovery', 'words').filter((words) => {
    try {
      return recoveryKeyPair(textOf(words)) !== undefined
    } catch {
      return false
    }
  })
  return {
    name: 'recovery-words',
    form: 'text',
    seeds: good,
    edges: identityEdges('recovery', 'words'),
    words: [
      ' ',
      '  ',
      '\n',
      '\t',
      '\u3000',
      'abandon',
      'zoo',
      'ABANDON',
      '\u212a',
      'e\u0301',
      '\ufb01',
      '\u0130',
      '\ufdfa',
      '\0',
    ],
    refusals: ['RECOVERY_WORDS_INVALID'],
    read: (input) => recoveryKeyPair(textOf(input)),
  }
}

/** Passphrases cost 64 MiB and a tenth of a second each, by design: their files are read without one. */
function ownerKeys(): Target {
  const random = testRandom('owner key')
  const protectedFile = {
    version: 1,
    protection: 'passphrase',
    salt: toBase64(random(16)),
    ops: 3,
    memory: 64 * 1024 * 1024,
    sealed: toBase64(random(73)),
  }
  return {
    name: 'owner-key',
    form: 'json',
    seeds: [createOwnerKey(random).file],
    edges: [canonicalBytes(protectedFile)],
    refusals: ['HOME_DAMAGED', 'PASSPHRASE_REQUIRED'],
    read: (input) => readOwnerKey(input),
  }
}

/** A home with this one file in it, whatever its name. */
export function homeWith(file: Uint8Array): Home {
  return { path: 'home', has: () => true, readFile: () => file } as unknown as Home
}

function identityFiles(): Target {
  const { public_keys, recovery_public_key } = testRegistration(agent, {
    recovery_public_key: testRegistration(testIdentity('recovery')).public_keys.signing_public_key,
  })
  const file = {
    amid: agent.amid,
    signing_public_key: public_keys.signing_public_key,
    exchange_public_key: public_keys.exchange_key.key,
    recovery_public_key,
    created_at: formatTimestamp(NOW),
    framework: 'example',
  }
  return {
    name: 'identity-file',
    form: 'json',
    seeds: [canonicalBytes(file)],
    refusals: ['HOME_DAMAGED'],
    read: (input) => readPublicIdentity(homeWith(input)),
    write: (value: object) => canonicalBytes(value),
  }
}

function multikeys(): Target {
  return {
    name: 'multikey',
    form: 'text',
    seeds: [utf8Bytes(toMultikey('ed25519', agent.signing.publicKey))],
    edges: identityEdges('multikey', 'text'),
    words: ['z', 'm', '1', '0', 'é'],
    refusals: ['INVALID_KEY'],
    read: (input) => fromMultikey('ed25519', textOf(input)),
    write: (key: Uint8Array) => utf8Bytes(toMultikey('ed25519', key)),
  }
}

export const IDENTITY_TARGETS: Readonly<Record<string, TargetMaker>> = {
  'signed-key': keyRecords,
  bundle: bundles,
  registration: registrations,
  'agent-record': agentRecords,
  succession: successions,
  'http-signature': requests,
  'recovery-words': recoveryWords,
  'owner-key': ownerKeys,
  'identity-file': identityFiles,
  multikey: multikeys,
  did: () => ({
    name: 'did',
    form: 'text',
    seeds: [utf8Bytes(didFromAmid(agent.amid))],
    words: ['did:', 'agentmesh:', ':', '#', '?', '1'],
    refusals: ['INVALID_AMID'],
    read: (input) => amidFromDid(textOf(input)),
    write: (amid: Amid) => utf8Bytes(didFromAmid(amid)),
  }),
}
