/**
 * Targets of the X.509 readers: certificates, revocation lists, and whole chains. Dressed session certificates are signed by
 * the agent's key, as those of a hostile but certified agent would be.
 */
import {
  certificateText,
  MAX_CERTIFICATE_BYTES,
  openTrustDocument,
  parseCertificate,
  parseCrl,
  validatePath,
  type Certificate,
  type Crl,
} from '@agentmesh/sdk/identity'
import { canonicalBytes, parseJsonObject } from '@agentmesh/sdk/wire'
import { derSigned } from '../../../packages/sdk/src/identity/certificates/der-writer.ts'
import {
  certifiedIdentity,
  crlsOf,
  testAgent,
  testCrl,
  TestRegistry,
  testSession,
} from '../../../packages/sdk/src/identity/certificates/test-support.ts'
import { NOW } from '../../../packages/sdk/src/identity/test-support.ts'
import { JSON_REFUSALS, type Target, type TargetMaker } from '../target.ts'

const registry = new TestRegistry('Example')
const organization = registry.organization('Acme')
const alice = certifiedIdentity('alice')
const agent = testAgent(alice, organization, 'Alice')
const session = testSession(agent)
const issuers = [registry.root, registry.intermediate, organization]

function certificates(): Target {
  const all = [...issuers, registry.service, agent].map(({ certificate }) => certificate)
  return {
    name: 'certificate',
    form: 'bytes',
    seeds: [...all, session.certificate].map(({ der }) => der),
    edges: [new Uint8Array(MAX_CERTIFICATE_BYTES + 1), testCrl(organization).der],
    refusals: ['CERTIFICATE_MALFORMED'],
    read: (input) => parseCertificate(input),
    write: ({ der }: Certificate) => der,
  }
}

function lists(): Target {
  const entries = [
    { serial: '01', revokedAt: NOW, reason: 'keyCompromise' as const },
    { serial: '02', revokedAt: NOW, reason: 'unspecified' as const },
  ]
  return {
    name: 'crl',
    form: 'bytes',
    seeds: [testCrl(organization).der, testCrl(registry.intermediate, entries).der],
    edges: [session.certificate.der],
    refusals: ['CERTIFICATE_MALFORMED'],
    read: (input) => parseCrl(input),
    write: ({ der }: Crl) => der,
  }
}

/** The DER's first value under its own signature; what is none stays as it is. */
function signedAnew(input: Uint8Array): Uint8Array {
  const start = input[1] === 0x82 ? 4 : 2
  const inner = input.subarray(start)
  const length = inner[1] === 0x82 ? 4 + (inner[2] ?? 0) * 256 + (inner[3] ?? 0) : 2 + (inner[1] ?? 0)
  return derSigned(inner.subarray(0, length), alice.signing.secretKey)
}

/** A verdict for whatever stands in place of the session certificate; one that holds is for this agent and this key. */
function chains(): Target {
  const trusted = openTrustDocument(registry.trustDocument, { now: NOW })
  const crlOf = crlsOf(...issuers.map((issuer) => testCrl(issuer)))
  return {
    name: 'certificate-chain',
    form: 'bytes',
    seeds: [session.certificate.der],
    refusals: [],
    dress: signedAnew,
    read: (input) => {
      const verdict = validatePath([input, agent.certificate.der, organization.certificate.der], trusted, {
        now: NOW,
        amid: alice.amid,
        sessionKey: session.key,
        crlOf,
      })
      const [leaf] = verdict.path ?? []
      if (verdict.valid && (leaf?.amid !== alice.amid || leaf.isCa))
        throw new Error('a false chain was taken')
      return verdict.valid
    },
  }
}

function trustDocuments(): Target {
  return {
    name: 'trust-document',
    form: 'json',
    seeds: [canonicalBytes(registry.trustDocument)],
    edges: [canonicalBytes({ ...registry.trustDocument, root: certificateText(organization.certificate) })],
    refusals: [...JSON_REFUSALS, 'CERTIFICATE_MALFORMED', 'CERTIFICATE_INVALID'],
    read: (input) => openTrustDocument(parseJsonObject(input, 64 * 1024), { now: NOW }).fingerprint,
  }
}

export const CERTIFICATE_TARGETS: Readonly<Record<string, TargetMaker>> = {
  certificate: certificates,
  crl: lists,
  'certificate-chain': chains,
  'trust-document': trustDocuments,
}
