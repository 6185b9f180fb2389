import { describe, expect, it } from 'vitest'
import { NOW } from '../test-support.ts'
import { parseCertificate } from './certificate.ts'
import { kindOf } from './certificate-kind.ts'
import { validatePath } from './path-validation.ts'
import { certifiedIdentity, crlsOf, testAgent, testCrl, TestRegistry, testSession } from './test-support.ts'
import { openTrustDocument } from './trusted-registry.ts'

const registry = new TestRegistry('Example')
const organization = registry.organization('Acme')
const alice = certifiedIdentity('alice')
const agent = testAgent(alice, organization, 'Alice')
const session = testSession(agent)

describe('certificates', () => {
  it('reads each kind as what it was issued as', () => {
    const { root, intermediate, service } = registry
    expect(
      [root, intermediate, organization, agent, session, service].map(({ certificate }) =>
        kindOf(certificate),
      ),
    ).toEqual(['root', 'intermediate', 'organization', 'agent', 'session', 'service'])
  })

  it('opens', () => {
    const anchor = openTrustDocument(registry.trustDocument, { now: NOW })
    const verdict = validatePath(
      [session.certificate.der, agent.certificate.der, organization.certificate.der],
      anchor,
      {
        now: NOW,
        amid: alice.amid,
        sessionKey: session.key,
        crlOf: crlsOf(testCrl(registry.root), testCrl(registry.intermediate), testCrl(organization)),
      },
    )
    expect(verdict).toMatchObject({
      valid: true,
      revocation: 'good',
      tier: 1.5,
      displayName: 'Alice',
      organization: 'Acme',
    })
    expect(parseCertificate(agent.certificate.der)).toEqual(agent.certificate)
  })
})
