/**
 * Targets of the transparency log: heads, proofs, entries, what a monitor kept. Dressed heads carry the registry's own
 * signature: a registry is no friend of who checks its log.
 */
import { ed25519KeyPair, sha256, sign } from '@agentmesh/sdk/crypto/signing'
import {
  checkConsistency,
  consistencyPath,
  encodeLogEntry,
  GrowingTree,
  inclusionPath,
  leafHash,
  parseLogEntry,
  parseLogState,
  rootOf,
  signTreeHead,
  verifyCertificateProof,
  verifyTreeHead,
  type LogEntry,
} from '@agentmesh/sdk/identity'
import {
  canonicalBytes,
  formatTimestamp,
  parseJsonObject,
  toBase64,
  toHex,
  unsignedBytes,
  utf8Bytes,
  type ConsistencyProof,
  type TreeHead,
} from '@agentmesh/sdk/wire'
import { JSON_REFUSALS, textOf, type Target, type TargetMaker } from '../target.ts'
import { wireSeeds } from '../vectors.ts'

const LIMIT = 256 * 1024
const NOW = Date.UTC(2026, 1, 1, 12)
const serviceKey = ed25519KeyPair(sha256(utf8Bytes('service key')))
const fingerprint = toHex(sha256(utf8Bytes('root certificate')))
const log = { fingerprint, serviceKey: serviceKey.publicKey }
const ENTRIES = Array.from({ length: 13 }, (_, index) =>
  encodeLogEntry({ kind: 'certificate', timestamp: NOW, content: utf8Bytes(`certificate ${index}`) }),
)
const LEAVES = ENTRIES.map(leafHash)
const headOf = (size: number): TreeHead =>
  signTreeHead({ fingerprint, serviceKey }, { size, rootHash: rootOf(LEAVES.slice(0, size)), timestamp: NOW })

/** The registry's signature over whatever stands in the head, or in the head within. */
function signHead(input: Uint8Array): Uint8Array {
  try {
    const outer = JSON.parse(textOf(input)) as Record<string, unknown>
    const head = (outer['tree_head'] ?? outer) as Record<string, unknown>
    head['signature'] = toBase64(sign('tree-head', serviceKey.secretKey, unsignedBytes(head)))
    return utf8Bytes(JSON.stringify(outer))
  } catch {
    return input
  }
}

function treeHeads(): Target {
  return {
    name: 'tree-head',
    form: 'json',
    seeds: [0, 1, 13].map((size) => canonicalBytes(headOf(size))),
    edges: [...wireSeeds('tree-head').seeds, ...wireSeeds('tree-head').edges],
    refusals: [...JSON_REFUSALS, 'LOG_FOREIGN', 'INVALID_SIGNATURE'],
    dress: signHead,
    read(input) {
      const raw = parseJsonObject(input, LIMIT)
      verifyTreeHead(raw, log)
      return raw
    },
    write: (raw: object) => canonicalBytes(raw),
  }
}

function certificateProofs(): Target {
  const proofOf = (size: number) => ({
    tree_head: headOf(size),
    index: 2,
    entry_timestamp: formatTimestamp(NOW),
    path: inclusionPath(2, LEAVES.slice(0, size)).map(toBase64),
  })
  return {
    name: 'certificate-proof',
    form: 'json',
    seeds: [3, 4, 13].map((size) => canonicalBytes(proofOf(size))),
    edges: wireSeeds('certificate-proof').edges,
    refusals: [...JSON_REFUSALS, 'LOG_FOREIGN', 'INVALID_SIGNATURE', 'TREE_HEAD_STALE', 'LOG_PROOF_INVALID'],
    dress: signHead,
    read(input) {
      const raw = parseJsonObject(input, LIMIT)
      const { rootHash } = verifyCertificateProof(utf8Bytes('certificate 2'), raw, log, NOW)
      // Nobody finds another tree that this certificate is in.
      const roots = [3, 4, 13].map((size) => toHex(rootOf(LEAVES.slice(0, size))))
      if (!roots.includes(toHex(rootHash))) throw new Error('a proof under a tree without the certificate')
      return raw
    },
    write: (raw: object) => canonicalBytes(raw),
  }
}

function consistencyProofs(): Target {
  const tree = (size: number) => verifyTreeHead(headOf(size), log)
  const [older, newer] = [tree(6), tree(13)]
  const proof: ConsistencyProof = { from: 6, to: 13, path: consistencyPath(6, LEAVES).map(toBase64) }
  return {
    name: 'consistency-proof',
    form: 'json',
    seeds: [canonicalBytes(proof)],
    edges: wireSeeds('consistency-proof').edges,
    refusals: [...JSON_REFUSALS, 'LOG_INCONSISTENT'],
    read(input) {
      const raw = parseJsonObject(input, LIMIT)
      checkConsistency(raw, older, newer)
      if (JSON.stringify(raw['path']) !== JSON.stringify(proof.path)) throw new Error('a second proof')
      return raw
    },
    write: (raw: object) => canonicalBytes(raw),
  }
}

function logEntries(): Target {
  const others = (['revocation', 'reputation'] as const).map((kind) =>
    encodeLogEntry({ kind, timestamp: NOW, content: utf8Bytes('{}') }),
  )
  return {
    name: 'log-entry',
    form: 'bytes',
    seeds: [...ENTRIES.slice(0, 1), ...others],
    edges: [Uint8Array.of(1, 0xff), new Uint8Array(4_097).fill(1)],
    refusals: ['MALFORMED', 'TOO_LARGE', 'UNKNOWN_TYPE', 'INVALID_TIMESTAMP'],
    read: parseLogEntry,
    write: (entry: LogEntry) => encodeLogEntry(entry),
  }
}

function logStates(): Target {
  const stateOf = (size: number) => {
    const tree = new GrowingTree()
    for (const entry of ENTRIES.slice(0, size)) tree.append(entry)
    return tree.state(headOf(size))
  }
  return {
    name: 'log-state',
    form: 'json',
    seeds: [0, 7, 13].map((size) => canonicalBytes(stateOf(size))),
    refusals: JSON_REFUSALS,
    read: (input) => parseLogState(parseJsonObject(input, LIMIT)),
    write: (state: object) => canonicalBytes(state),
  }
}

export const TRANSPARENCY_TARGETS: Readonly<Record<string, TargetMaker>> = {
  'tree-head': treeHeads,
  'certificate-proof': certificateProofs,
  'consistency-proof': consistencyProofs,
  'log-entry': logEntries,
  'log-state': logStates,
}
