import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, sha256 } from '../../crypto/signing.ts'
import {
  formatTimestamp,
  toBase64,
  toHex,
  utf8Bytes,
  type CertificateProof,
  type TreeHead,
} from '../../wire/index.ts'
import { outcome } from '../../wire/test-support.ts'
import { NOW } from '../test-support.ts'
import { TREE_HEAD_MAX_AGE_SECONDS, verifyCertificateProof } from './certificate-proof.ts'
import { encodeLogEntry, parseLogEntry, type LogEntry } from './log-entry.ts'
import { consistencyPath, EMPTY_ROOT, inclusionPath, leafHash, rootOf } from './merkle.ts'
import { checkConsistency, compareTrees, signTreeHead, verifyTreeHead } from './tree-head.ts'

const registryOf = (name: string) => ({
  fingerprint: toHex(sha256(utf8Bytes(`root of ${name}`))),
  serviceKey: ed25519KeyPair(sha256(utf8Bytes(`service key of ${name}`))),
})
const ours = registryOf('ours')
const theirs = registryOf('theirs')
const log = { fingerprint: ours.fingerprint, serviceKey: ours.serviceKey.publicKey }

const der = (name: string): Uint8Array => utf8Bytes(`certificate of ${name}`)
const entry = (kind: LogEntry['kind'], name: string, timestamp = NOW): Uint8Array =>
  encodeLogEntry({ kind, timestamp, content: der(name) })
const leaves = ['a', 'b', 'c', 'd', 'e'].map((name) => leafHash(entry('certificate', name)))

function headOf(hashes: readonly Uint8Array[], timestamp = NOW, registry = ours): TreeHead {
  return signTreeHead(registry, { size: hashes.length, rootHash: rootOf(hashes), timestamp })
}

function proofOf(index: number, hashes = leaves, tree_head = headOf(hashes)): CertificateProof {
  const path = inclusionPath(index, hashes).map(toBase64)
  return { tree_head, index, entry_timestamp: formatTimestamp(NOW), path }
}

describe('a tree head', () => {
  it('says what it was signed for', () => {
    expect(verifyTreeHead(headOf(leaves), log)).toEqual({
      size: 5,
      rootHash: rootOf(leaves),
      timestamp: NOW,
    })
  })

  it('is refused with any field changed, an unknown one included', () => {
    const head = headOf(leaves)
    for (const change of [
      { size: 4 },
      { root_hash: toBase64(rootOf(leaves.slice(0, 4))) },
      { timestamp: formatTimestamp(NOW + 1) },
      { later: true },
      { signature: headOf(leaves.slice(0, 4)).signature },
    ]) {
      expect(outcome(() => verifyTreeHead({ ...head, ...change }, log))).toBe('INVALID_SIGNATURE')
    }
  })

  it('is refused when it is of another registry, or under the name of this one by another key', () => {
    expect(outcome(() => verifyTreeHead(headOf(leaves, NOW, theirs), log))).toBe('LOG_FOREIGN')
    const forged = headOf(leaves, NOW, { ...theirs, fingerprint: ours.fingerprint })
    expect(outcome(() => verifyTreeHead(forged, log))).toBe('INVALID_SIGNATURE')
  })

  it('is refused when it gives an empty log a root of its own', () => {
    const empty = { size: 0, timestamp: NOW }
    const head = signTreeHead(ours, { ...empty, rootHash: EMPTY_ROOT })
    expect(verifyTreeHead(head, log).size).toBe(0)
    const strange = signTreeHead(ours, { ...empty, rootHash: leaves[0]! })
    expect(outcome(() => verifyTreeHead(strange, log))).toBe('MALFORMED')
  })

  it.each([[null], ['head'], [{}], [[]]])('is refused when it is %j', (raw) => {
    expect(outcome(() => verifyTreeHead(raw, log))).toBe('MALFORMED')
  })
})

describe('two tree heads', () => {
  const tree = (hashes: readonly Uint8Array[]) => verifyTreeHead(headOf(hashes), log)
  const consistency = (from: number, hashes: readonly Uint8Array[]) => ({
    from,
    to: hashes.length,
    path: consistencyPath(from, hashes).map(toBase64),
  })
  const forked = [...leaves.slice(0, 2), leaves[4]!, ...leaves.slice(3)]

  it('are the same, a split view, or to be joined by a proof', () => {
    const [older, newer] = [tree(leaves.slice(0, 3)), tree(leaves)]
    expect(compareTrees(newer, tree(leaves))).toEqual({ relation: 'same' })
    expect(compareTrees(newer, tree(forked))).toEqual({ relation: 'split' })
    expect(compareTrees(newer, older)).toEqual({ relation: 'ask', older, newer })
    expect(compareTrees(older, newer)).toEqual({ relation: 'ask', older, newer })
  })

  it('are joined by the proof of their sizes only', () => {
    const [older, newer] = [tree(leaves.slice(0, 3)), tree(leaves)]
    const proof = consistency(3, leaves)
    expect(outcome(() => checkConsistency(proof, older, newer))).toBe('ok')
    for (const wrong of [
      { ...proof, from: 2 },
      { ...proof, to: 4 },
      { ...proof, path: [] },
      consistency(2, leaves),
      consistency(3, leaves.slice(0, 4)),
      consistency(3, forked),
    ]) {
      expect(outcome(() => checkConsistency(wrong, older, newer))).toBe('LOG_INCONSISTENT')
    }
    expect(outcome(() => checkConsistency({ ...proof, path: 'none' }, older, newer))).toBe('MALFORMED')
  })

  it('cannot be joined when the older one tells another story', () => {
    const [older, newer] = [tree(forked.slice(0, 3)), tree(leaves)]
    expect(outcome(() => checkConsistency(consistency(3, leaves), older, newer))).toBe('LOG_INCONSISTENT')
    expect(outcome(() => checkConsistency(consistency(3, forked), older, newer))).toBe('LOG_INCONSISTENT')
  })
})

describe('the proof of a certificate', () => {
  it('is good for each certificate in the log', () => {
    for (const [index, name] of ['a', 'b', 'c', 'd', 'e'].entries()) {
      expect(verifyCertificateProof(der(name), proofOf(index), log, NOW).size).toBe(5)
    }
  })

  it('is refused for a certificate that is not in the log', () => {
    for (const index of [0, 1, 2, 3, 4]) {
      expect(outcome(() => verifyCertificateProof(der('x'), proofOf(index), log, NOW))).toBe(
        'LOG_PROOF_INVALID',
      )
    }
  })

  it('is refused for somebody else’s certificate, another place, another time and a changed path', () => {
    const proof = proofOf(2)
    const refused = (changed: object, name = 'c') =>
      outcome(() => verifyCertificateProof(der(name), { ...proof, ...changed }, log, NOW))
    expect(refused({})).toBe('ok')
    expect(refused({}, 'd')).toBe('LOG_PROOF_INVALID')
    expect(refused({ index: 3 })).toBe('LOG_PROOF_INVALID')
    expect(refused({ index: 5 })).toBe('LOG_PROOF_INVALID')
    expect(refused({ entry_timestamp: formatTimestamp(NOW + 1) })).toBe('LOG_PROOF_INVALID')
    expect(refused({ path: proof.path.toReversed() })).toBe('LOG_PROOF_INVALID')
    expect(refused({ path: proof.path.slice(1) })).toBe('LOG_PROOF_INVALID')
    expect(refused({ path: [...proof.path, proof.path[0]] })).toBe('LOG_PROOF_INVALID')
    expect(refused({ path: Array.from({ length: 54 }, () => proof.path[0]) })).toBe('MALFORMED')
    expect(refused({ tree_head: headOf(leaves.slice(0, 4)) })).toBe('LOG_PROOF_INVALID')
  })

  it('is refused when what stands in the log under these bytes is no certificate', () => {
    const hashes = [...leaves, leafHash(entry('revocation', 'x'))]
    expect(outcome(() => verifyCertificateProof(der('x'), proofOf(5, hashes), log, NOW))).toBe(
      'LOG_PROOF_INVALID',
    )
  })

  it('is refused under a head of another registry or by another key', () => {
    const foreign = headOf(leaves, NOW, theirs)
    expect(outcome(() => verifyCertificateProof(der('c'), proofOf(2, leaves, foreign), log, NOW))).toBe(
      'LOG_FOREIGN',
    )
    const forged = headOf(leaves, NOW, { ...theirs, fingerprint: ours.fingerprint })
    expect(outcome(() => verifyCertificateProof(der('c'), proofOf(2, leaves, forged), log, NOW))).toBe(
      'INVALID_SIGNATURE',
    )
  })

  it('is good for a week from its head and for clocks that are minutes apart', () => {
    const proof = proofOf(2)
    const at = (now: number) => outcome(() => verifyCertificateProof(der('c'), proof, log, now))
    const week = TREE_HEAD_MAX_AGE_SECONDS * 1000
    expect([at(NOW + week), at(NOW + week + 1)]).toEqual(['ok', 'TREE_HEAD_STALE'])
    expect([at(NOW - 300_000), at(NOW - 300_001)]).toEqual(['ok', 'TREE_HEAD_STALE'])
  })

  it('is refused for a certificate larger than the log takes', () => {
    const large = new Uint8Array(4_096)
    expect(outcome(() => verifyCertificateProof(large, proofOf(2), log, NOW))).toBe('TOO_LARGE')
  })
})

describe('a log entry', () => {
  it('is its kind, its time and its content', () => {
    const written = encodeLogEntry({
      kind: 'revocation',
      timestamp: 0x0102_0304_05,
      content: utf8Bytes('{}'),
    })
    expect(toHex(written)).toBe('0200000001020304057b7d')
    expect(parseLogEntry(written)).toEqual({
      kind: 'revocation',
      timestamp: 0x0102_0304_05,
      content: utf8Bytes('{}'),
    })
  })

  it('is refused when cut short, too long, of no known kind or of no time', () => {
    const written = entry('reputation', 'a')
    expect(parseLogEntry(written).kind).toBe('reputation')
    expect(outcome(() => parseLogEntry(written.subarray(0, 8)))).toBe('MALFORMED')
    expect(outcome(() => parseLogEntry(new Uint8Array(0)))).toBe('MALFORMED')
    expect(outcome(() => parseLogEntry(written.with(0, 0)))).toBe('UNKNOWN_TYPE')
    expect(outcome(() => parseLogEntry(written.with(0, 4)))).toBe('UNKNOWN_TYPE')
    expect(outcome(() => parseLogEntry(written.with(1, 0xff)))).toBe('MALFORMED')
    expect(outcome(() => parseLogEntry(written.with(2, 0x0f)))).toBe('INVALID_TIMESTAMP')
    expect(outcome(() => parseLogEntry(new Uint8Array(4_097).fill(1, 0, 1)))).toBe('TOO_LARGE')
    const large = { kind: 'certificate', timestamp: NOW, content: new Uint8Array(4_088) } as const
    expect(outcome(() => encodeLogEntry(large))).toBe('TOO_LARGE')
    expect(outcome(() => encodeLogEntry({ ...large, content: der('a'), timestamp: -1 }))).toBe(
      'INVALID_TIMESTAMP',
    )
  })
})
