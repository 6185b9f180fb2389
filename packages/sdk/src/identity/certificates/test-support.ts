/** One registry with an organisation and two agents, keys and dates fixed: for tests and vectors. */
import { ed25519KeyPair, x25519KeyPair, type KeyPair } from '../../crypto/signing.ts'
import type { TrustDocument } from '../../wire/index.ts'
import { identityFromKeyPair, type Identity } from '../amid.ts'
import { NOW, testRandom } from '../test-support.ts'
import { certificateText, parseCertificate, type Certificate } from './certificate.ts'
import { issueCrl, parseCrl, type Crl, type CrlEntry } from './crl.ts'
import {
  CERTIFICATE_LIFETIMES,
  issueAgent,
  issueIntermediate,
  issueOrganization,
  issueRoot,
  issueService,
  issueSession,
  newSerial,
  type Issuer,
  type IssueTerms,
} from './issue.ts'

const CRL_LIFETIME = 24 * 3_600_000
/** Certificates begin before the moment of the tests, as issuers date them. */
const START = NOW - 300_000

export function testKeyPair(name: string): KeyPair {
  return ed25519KeyPair(testRandom(`certificate key ${name}`)(32))
}

function termsOf(name: string, lifetime: number): IssueTerms {
  return { serial: newSerial(testRandom(`serial ${name}`)), notBefore: START, notAfter: START + lifetime }
}

export function issuerOf(der: Uint8Array, signing: KeyPair): Issuer {
  return { certificate: parseCertificate(der), signing }
}

export class TestRegistry {
  readonly name: string
  readonly url: string
  readonly root: Issuer
  readonly intermediate: Issuer
  readonly service: Issuer

  constructor(name: string) {
    this.name = name
    this.url = `https://${name.toLowerCase()}.example`
    const rootKey = testKeyPair(`${name} root`)
    const root = issueRoot({ name, ...termsOf(`${name} root`, CERTIFICATE_LIFETIMES.root) }, rootKey)
    this.root = issuerOf(root, rootKey)
    const key = testKeyPair(`${name} intermediate`)
    const terms = termsOf(`${name} intermediate`, CERTIFICATE_LIFETIMES.intermediate)
    const intermediate = issueIntermediate({ name, publicKey: key.publicKey, ...terms }, this.root)
    this.intermediate = issuerOf(intermediate, key)
    const serviceKey = testKeyPair(`${name} service`)
    const service = issueService(
      {
        name,
        url: this.url,
        publicKey: serviceKey.publicKey,
        ...termsOf(`${name} service`, CERTIFICATE_LIFETIMES.service),
      },
      this.intermediate,
    )
    this.service = issuerOf(service, serviceKey)
  }

  get trustDocument(): TrustDocument {
    return {
      name: this.name,
      url: this.url,
      root: certificateText(this.root.certificate),
      intermediates: [certificateText(this.intermediate.certificate)],
      service_certificate: certificateText(this.service.certificate),
    }
  }

  organization(organization: string, domain = `${organization.toLowerCase()}.example`): Issuer {
    const key = testKeyPair(organization)
    const terms = termsOf(organization, CERTIFICATE_LIFETIMES.organization)
    const der = issueOrganization(
      { organization, domain, publicKey: key.publicKey, ...terms },
      this.intermediate,
    )
    return issuerOf(der, key)
  }
}

/** An agent's certificate, as an issuer of sessions. */
export function testAgent(identity: Identity, issuer: Issuer, displayName?: string, role?: string): Issuer {
  const terms = termsOf(`agent ${identity.amid}`, CERTIFICATE_LIFETIMES.agent)
  const der = issueAgent({ publicKey: identity.signing.publicKey, displayName, role, ...terms }, issuer)
  return issuerOf(der, identity.signing)
}

export function certifiedIdentity(name: string): Identity {
  return identityFromKeyPair(testKeyPair(name))
}

export function testSession(agent: Issuer, name = 'session'): { certificate: Certificate; key: Uint8Array } {
  const key = x25519KeyPair(testRandom(`session key ${name}`)(32)).publicKey
  const der = issueSession({ publicKey: key, ...termsOf(`session ${name}`, 3_600_000) }, agent)
  return { certificate: parseCertificate(der), key }
}

export function testCrl(issuer: Issuer, entries: readonly CrlEntry[] = [], thisUpdate = START): Crl {
  const fields = { entries, number: 1, thisUpdate, nextUpdate: thisUpdate + CRL_LIFETIME }
  return parseCrl(issueCrl(fields, issuer))
}

/** What an agent that fetched them has at hand. */
export function crlsOf(...crls: readonly Crl[]): (keyId: string) => Crl | undefined {
  const byKeyId = new Map(crls.map((crl) => [crl.authorityKeyId, crl]))
  return (keyId) => byKeyId.get(keyId)
}
