/**
 * The vectors of `test-vectors/certificates/`: one whole hierarchy with the keys it was made from, and the chains of the case
 * tables with the verdict on each. All bytes base64, all times RFC 3339.
 */
import { formatTimestamp, toBase64 } from '../../wire/index.ts'
import { NOW } from '../test-support.ts'
import { kindOf } from './certificate-kind.ts'
import type { Certificate } from './certificate.ts'
import type { Issuer } from './issue.ts'
import type { ChainCase } from './test-support-chain-case.ts'
import { ENCODING_CASES, SHAPE_CASES } from './test-support-form-cases.ts'
import { CONSTRAINT_CASES, NAME_CASES } from './test-support-name-cases.ts'
import {
  BINDING_CASES,
  DATE_CASES,
  GOOD_CASES,
  LIST_CASES,
  PLACE_CASES,
  SIGNATURE_CASES,
} from './test-support-path-cases.ts'
import { certifiedIdentity, testAgent, testCrl, TestRegistry, testSession } from './test-support.ts'

export const CHAIN_CASES: readonly ChainCase[] = [
  ...GOOD_CASES,
  ...DATE_CASES,
  ...SIGNATURE_CASES,
  ...NAME_CASES,
  ...CONSTRAINT_CASES,
  ...LIST_CASES,
  ...PLACE_CASES,
  ...BINDING_CASES,
  ...ENCODING_CASES,
  ...SHAPE_CASES,
]
/** Longer ones show nothing that five certificates do not. */
const MAX_VECTOR_CHAIN = 5

export interface ChainVector {
  readonly description: string
  readonly section: string
  /** `good`, `unknown` (valid, with a revocation that is not known), or why the chain does not hold. */
  readonly expect: string
  readonly now: string
  readonly amid: string
  readonly session_key: string | null
  readonly chain: readonly string[]
  readonly root: string
  readonly intermediates: readonly string[]
  readonly crls: readonly string[]
  /** Set where `openssl verify` takes what is refused here. */
  readonly openssl_differs: string | null
}

export interface HierarchyVector {
  readonly description: string
  readonly section: string
  readonly certificates: readonly {
    readonly kind: string
    readonly seed: string | null
    readonly certificate: string
    readonly fields: Readonly<Record<string, unknown>>
  }[]
  readonly crl: string
}

export function chainVectors(): ReadonlyMap<string, ChainVector> {
  const cases = CHAIN_CASES.filter(({ chain }) => chain.length <= MAX_VECTOR_CHAIN)
  return new Map(cases.map((chainCase) => [slugOf(chainCase.name), vectorOf(chainCase)]))
}

function slugOf(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
}

function vectorOf({ name, verdict, now = NOW, amid, sessionKey, differs, ...bytes }: ChainCase): ChainVector {
  return {
    description: name,
    section: 'spec/certificates.md 5',
    expect: verdict,
    now: formatTimestamp(now),
    amid,
    session_key: sessionKey === undefined ? null : toBase64(sessionKey),
    chain: bytes.chain.map(toBase64),
    root: toBase64(bytes.root),
    intermediates: bytes.intermediates.map(toBase64),
    crls: bytes.crls.map(toBase64),
    openssl_differs: differs ?? null,
  }
}

export function hierarchyVector(): HierarchyVector {
  const registry = new TestRegistry('Example')
  const organization = registry.organization('Acme')
  const agent = testAgent(certifiedIdentity('alice'), organization, 'Alice', 'buyer')
  const session = testSession(agent)
  const issuers: Issuer[] = [registry.root, registry.intermediate, organization, registry.service, agent]
  const revoked = [
    { serial: '0102', revokedAt: NOW, reason: 'keyCompromise' as const },
    { serial: '0103', revokedAt: NOW, reason: 'unspecified' as const },
  ]
  const entries = [
    ...issuers.map(({ certificate, signing }) => ({
      certificate,
      seed: toBase64(signing.secretKey.subarray(0, 32)),
    })),
    { certificate: session.certificate, seed: null },
  ]
  return {
    description:
      'One certificate of each kind, the seeds of their Ed25519 keys, what each says, and a list of the organisation',
    section: 'spec/certificates.md 2',
    certificates: entries.map(({ certificate, seed }) => ({
      kind: kindOf(certificate) ?? 'none',
      seed,
      certificate: toBase64(certificate.der),
      fields: fieldsOf(certificate),
    })),
    crl: toBase64(testCrl(organization, revoked).der),
  }
}

export function fieldsOf(certificate: Certificate): Readonly<Record<string, unknown>> {
  const { organization, role, commonName } = certificate.subject
  return {
    serial: certificate.serial,
    subject: { organization: organization ?? null, role: role ?? null, common_name: commonName ?? null },
    not_before: formatTimestamp(certificate.notBefore),
    not_after: formatTimestamp(certificate.notAfter),
    key_id: certificate.keyId,
    authority_key_id: certificate.authorityKeyId ?? null,
    path_length: certificate.pathLength ?? null,
    key_usage: certificate.keyUsage,
    did: certificate.did ?? null,
  }
}
