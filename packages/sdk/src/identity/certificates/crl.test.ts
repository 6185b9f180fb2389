import { describe, expect, it } from 'vitest'
import { outcome } from '../../wire/test-support.ts'
import { DAY, NOW, testRandom } from '../test-support.ts'
import { parseCertificate } from './certificate.ts'
import { issueCrl, MAX_CRL_BYTES, parseCrl, REVOCATION_REASONS, verifyCrl, type CrlFields } from './crl.ts'
import { contextConstructed } from './der-reader.ts'
import {
  derExtension,
  derNumber,
  derSequence,
  derSigned,
  derTime,
  derValue,
  ED25519_ALGORITHM,
} from './der-writer.ts'
import { authorityKeyId, newSerial } from './issue.ts'
import { issuerOf, TestRegistry } from './test-support.ts'
import { buildChain, keyUsageOf } from './test-support-chains.ts'

const registry = new TestRegistry('Example')
const issuer = registry.intermediate
const random = testRandom('crl')

function fields(changes: Partial<CrlFields> = {}): CrlFields {
  return { entries: [], number: 1, thisUpdate: NOW, nextUpdate: NOW + DAY, ...changes }
}

describe('CRLs', () => {
  it('carry every reason, and read as they were issued', () => {
    const entries = REVOCATION_REASONS.map((reason) => ({
      serial: newSerial(random),
      revokedAt: NOW - DAY,
      reason,
    }))
    const crl = parseCrl(issueCrl(fields({ entries, number: 0x8000 }), issuer))
    expect([...crl.entries.values()]).toEqual(entries)
    expect(crl).toMatchObject({ number: 0x8000, thisUpdate: NOW, nextUpdate: NOW + DAY })
    expect(crl.authorityKeyId).toBe(issuer.certificate.keyId)
  })

  it('are current until their next update, and stale from then on', () => {
    const crl = parseCrl(issueCrl(fields(), issuer))
    expect(verifyCrl(crl, issuer.certificate, NOW + DAY - 1)).toBe('current')
    expect(verifyCrl(crl, issuer.certificate, NOW + DAY)).toBe('stale')
  })

  it('hold six thousand entries, and no more than fit in their bound', () => {
    const entry = () => ({ serial: newSerial(random), revokedAt: NOW, reason: 'superseded' as const })
    const der = issueCrl(fields({ entries: Array.from({ length: 6_000 }, entry) }), issuer)
    expect(parseCrl(der).entries.size).toBe(6_000)
    const tooMany = fields({ entries: Array.from({ length: 12_000 }, entry) })
    expect(outcome(() => issueCrl(tooMany, issuer))).toBe('CERTIFICATE_MALFORMED')
    expect(outcome(() => parseCrl(new Uint8Array(MAX_CRL_BYTES + 1)))).toBe('CERTIFICATE_MALFORMED')
  })

  it('refuses a list that is somebody else’s, changed, of the future, or of an issuer that may sign none', () => {
    const der = issueCrl(fields(), issuer)
    const verdict = (bytes: Uint8Array, certificate = issuer.certificate, now = NOW) =>
      outcome(() => verifyCrl(parseCrl(bytes), certificate, now))
    expect(verdict(der)).toBe('ok')
    expect(verdict(der, registry.root.certificate)).toBe('CERTIFICATE_INVALID')
    expect(verdict(der.with(der.length - 1, (der.at(-1) ?? 0) ^ 1))).toBe('CERTIFICATE_INVALID')
    expect(verdict(der, issuer.certificate, NOW - 1)).toBe('CERTIFICATE_INVALID')

    // The same key and name, in a certificate without cRLSign.
    const { levels } = buildChain({ organization: { extensions: { keyUsage: keyUsageOf('keyCertSign') } } })
    const mute = issuerOf(levels.organization.der, levels.organization.key)
    expect(verdict(issueCrl(fields(), mute), mute.certificate)).toBe('CERTIFICATE_INVALID')
  })

  it('are issued with the key of the issuer’s certificate only', () => {
    const { certificate } = issuer
    expect(outcome(() => issueCrl(fields(), { certificate, signing: registry.root.signing }))).toBe(
      'CERTIFICATE_MALFORMED',
    )
  })

  const list = (...parts: readonly Uint8Array[]) =>
    derSigned(
      derSequence(derNumber(1), ED25519_ALGORITHM, issuer.certificate.subject.der, ...parts),
      issuer.signing.secretKey,
    )
  const dates = [derTime(NOW), derTime(NOW + DAY)]
  const entry = derSequence(derNumber(5), derTime(NOW))
  const numbered = [authorityKeyId(issuer), derExtension('2.5.29.20', false, derNumber(1))]
  const extensions = (...all: readonly Uint8Array[]) => derValue(contextConstructed(0), derSequence(...all))
  const critical = derExtension('2.5.29.28', true, derSequence())
  const reason = (code: number) => derSequence(derExtension('2.5.29.21', false, derNumber(code, 0x0a)))

  it.each<[string, Uint8Array, string]>([
    ['one entry', list(...dates, derSequence(entry), extensions(...numbered)), 'ok'],
    [
      'the same serial number twice',
      list(...dates, derSequence(entry, entry), extensions(...numbered)),
      'CERTIFICATE_MALFORMED',
    ],
    [
      'an empty list of entries',
      list(...dates, derSequence(), extensions(...numbered)),
      'CERTIFICATE_MALFORMED',
    ],
    ['no next update', list(derTime(NOW), extensions(...numbered)), 'CERTIFICATE_MALFORMED'],
    [
      'a next update before this one',
      list(derTime(NOW), derTime(NOW), extensions(...numbered)),
      'CERTIFICATE_MALFORMED',
    ],
    ['no extensions', list(...dates), 'CERTIFICATE_MALFORMED'],
    ['no number', list(...dates, extensions(authorityKeyId(issuer))), 'CERTIFICATE_MALFORMED'],
    [
      'a scope (issuing distribution point)',
      list(...dates, extensions(...numbered, critical)),
      'CERTIFICATE_MALFORMED',
    ],
    [
      'a reason of our own',
      list(
        ...dates,
        derSequence(derSequence(derNumber(5), derTime(NOW), reason(1))),
        extensions(...numbered),
      ),
      'ok',
    ],
    [
      'a certificate on hold',
      list(
        ...dates,
        derSequence(derSequence(derNumber(5), derTime(NOW), reason(6))),
        extensions(...numbered),
      ),
      'CERTIFICATE_MALFORMED',
    ],
    [
      'an entry taken back (delta lists)',
      list(
        ...dates,
        derSequence(derSequence(derNumber(5), derTime(NOW), reason(8))),
        extensions(...numbered),
      ),
      'CERTIFICATE_MALFORMED',
    ],
    [
      'an unspecified reason written out',
      list(
        ...dates,
        derSequence(derSequence(derNumber(5), derTime(NOW), reason(0))),
        extensions(...numbered),
      ),
      'CERTIFICATE_MALFORMED',
    ],
    ['a certificate', registry.root.certificate.der, 'CERTIFICATE_MALFORMED'],
  ])('with %s: $2', (_, der, expected) => {
    expect(outcome(() => parseCrl(der))).toBe(expected)
  })

  it('are no certificates', () => {
    expect(outcome(() => parseCertificate(issueCrl(fields(), issuer)))).toBe('CERTIFICATE_MALFORMED')
  })
})
