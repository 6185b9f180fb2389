/** Plays `test-vectors/certificates/` with nothing but what stands in the files. */
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, equalBytes } from '../../crypto/signing.ts'
import { fromBase64, parseAmid, parseTimestamp } from '../../wire/index.ts'
import { outcome, printVector, vectorFiles } from '../../wire/test-support.ts'
import { kindOf } from './certificate-kind.ts'
import { parseCertificate } from './certificate.ts'
import { parseCrl, verifyCrl } from './crl.ts'
import { validatePath } from './path-validation.ts'
import {
  chainVectors,
  fieldsOf,
  hierarchyVector,
  type ChainVector,
  type HierarchyVector,
} from './test-support-vectors.ts'

const HIERARCHY = 'hierarchy'
const scenarios = new Map<string, ChainVector | HierarchyVector>([
  [HIERARCHY, hierarchyVector()],
  ...chainVectors(),
])
const print = (vector: object): string => printVector(vector, 110)
const { names, load } = vectorFiles('certificates', scenarios, print)
const chainNames = names.filter((name) => name !== HIERARCHY)

function verdictOf(vector: ChainVector): string {
  const lists = vector.crls.map((text) => parseCrl(fromBase64(text)))
  const anchor = {
    root: parseCertificate(fromBase64(vector.root)),
    intermediates: vector.intermediates.map((text) => parseCertificate(fromBase64(text))),
  }
  const { valid, failure, revocation } = validatePath(vector.chain.map(fromBase64), anchor, {
    now: parseTimestamp(vector.now),
    amid: parseAmid(vector.amid),
    ...(vector.session_key === null ? {} : { sessionKey: fromBase64(vector.session_key) }),
    crlOf: (keyId) => lists.find(({ authorityKeyId }) => authorityKeyId === keyId),
  })
  return valid ? revocation : (failure?.code ?? 'none')
}

describe('test-vectors/certificates', () => {
  it('has a file for every scenario, as it is made here', () => {
    expect(names.toSorted()).toEqual([...scenarios.keys()].toSorted())
    expect(chainNames.length).toBeGreaterThan(100)
    for (const [name, vector] of scenarios) expect(load(name)).toBe(print(vector))
  })

  it.each(chainNames)('%s', (name) => {
    const vector = JSON.parse(load(name)) as ChainVector
    expect(verdictOf(vector)).toBe(vector.expect)
  })

  it('hierarchy: each certificate is of its kind, has its key and says what it says', () => {
    const { certificates, crl } = JSON.parse(load(HIERARCHY)) as HierarchyVector
    const read = certificates.map(({ certificate }) => parseCertificate(fromBase64(certificate)))
    expect(read.map(kindOf)).toEqual(certificates.map(({ kind }) => kind))
    expect(read.map(fieldsOf)).toEqual(certificates.map(({ fields }) => fields))
    for (const [index, { seed }] of certificates.entries()) {
      const bytes = read[index]?.publicKey.bytes ?? new Uint8Array(0)
      if (seed !== null) expect(equalBytes(ed25519KeyPair(fromBase64(seed)).publicKey, bytes)).toBe(true)
    }
    const list = parseCrl(fromBase64(crl))
    const organization = read.find((certificate) => kindOf(certificate) === 'organization')
    expect([...list.entries.keys()]).toEqual(['0102', '0103'])
    expect(outcome(() => organization && verifyCrl(list, organization, list.thisUpdate))).toBe('ok')
  })
})
