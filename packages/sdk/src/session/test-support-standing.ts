/** Agents that can show who they are: a registry with its log and credentials, for tests and vectors of KNOCKs with standing. */
import { sha256 } from '../crypto/index.ts'
import { crlsOf, testAgent, testCrl, TestRegistry } from '../identity/certificates/test-support.ts'
import {
  encodeLogEntry,
  leafHash,
  nodeHash,
  openTrustDocument,
  signReputationCredential,
  signTreeHead,
  type Certificate,
  type CredentialFields,
  type CrlEntry,
  type Identity,
  type Issuer,
  type TrustedRegistry,
} from '../identity/index.ts'
import { NOW } from '../identity/test-support.ts'
import {
  formatTimestamp,
  toBase64,
  utf8Bytes,
  type CertificateProof,
  type ReputationCredential,
} from '../wire/index.ts'
import type { OwnStanding } from './own-standing.ts'
import type { TrustContext } from './standing.ts'

const HOUR = 3_600_000

export class TestTrust {
  readonly registry: TestRegistry
  readonly organization: Issuer
  readonly trusted: TrustedRegistry

  constructor(name = 'Example', organization = 'Acme', domain?: string) {
    this.registry = new TestRegistry(name)
    this.organization = this.registry.organization(organization, domain)
    this.trusted = openTrustDocument(this.registry.trustDocument, { now: NOW })
  }

  /** The certificate as first entry of a log of 2^levels entries, of which only the siblings on its way up are made. */
  prove(certificate: Certificate, levels = 4, at = NOW - HOUR): CertificateProof {
    const entry = encodeLogEntry({ kind: 'certificate', timestamp: at, content: certificate.der })
    const path = Array.from({ length: levels }, (_, level) => sha256(utf8Bytes(`sibling ${level}`)))
    const rootHash = path.reduce((left, right) => nodeHash(left, right), leafHash(entry))
    const log = { fingerprint: this.trusted.fingerprint, serviceKey: this.registry.service.signing }
    return {
      tree_head: signTreeHead(log, { size: 2 ** levels, rootHash, timestamp: at }),
      index: 0,
      entry_timestamp: formatTimestamp(at),
      path: path.map(toBase64),
    }
  }

  credential(identity: Identity, changes: Partial<CredentialFields> = {}): ReputationCredential {
    return signReputationCredential(this.registry.service.signing.secretKey, {
      registry: this.trusted.fingerprint,
      amid: identity.amid,
      score: 0.83,
      sessions: 41,
      issuedAt: NOW - HOUR,
      expiresAt: NOW + HOUR,
      ...changes,
    })
  }

  /** What an agent of the organisation, or of the registry itself, puts into its KNOCKs. */
  standing(identity: Identity, displayName?: string, isOrganized = true): OwnStanding {
    const issuer = isOrganized ? this.organization : this.registry.intermediate
    const { certificate } = testAgent(identity, issuer, displayName)
    return {
      certificates: {
        agent: certificate,
        ...(isOrganized ? { organization: this.organization.certificate } : {}),
        proof: this.prove(certificate),
      },
      reputation: this.credential(identity),
    }
  }

  /** What an owner who trusts this registry has at hand. */
  context(
    revoked: { readonly agents?: readonly CrlEntry[]; readonly organizations?: readonly CrlEntry[] } = {},
  ): TrustContext {
    const { root, intermediate } = this.registry
    const lists = [
      testCrl(root),
      testCrl(intermediate, revoked.organizations),
      testCrl(this.organization, revoked.agents),
    ]
    return { registries: [this.trusted], crlOf: crlsOf(...lists), unknownRevocation: 'anonymous' }
  }
}
