/** The endpoints of the certificate authority, organisations and successions. Without an authority all of them say so. */
import {
  AgentMeshError,
  AmidText,
  CertificateSubmission,
  CertifiedAgent,
  DomainChallenge,
  fromBase64,
  OrganizationRecord,
  OrganizationRegistration,
  parseAmid,
  RevocationListBody,
  Succession,
  SuccessionAnswer,
  SuccessionList,
  TrustDocument,
  Type,
} from '@agentmesh/sdk/wire'
import type { FastifyInstance } from 'fastify'
import type { Context } from '../context.ts'
import { addRoute, type Visitor } from '../route.ts'
import type { Certification } from './certification.ts'
import { submitChain, submitList } from './submissions.ts'
import { succeed, successionsOf } from './successions.ts'

const KeyIdPath = Type.Object({
  keyId: Type.String({ pattern: '^[0-9a-f]{40}$', description: 'Key id of the issuer, hex' }),
})
const AmidPath = Type.Object({ amid: AmidText })
const SuccessionsQuery = Type.Object({ amid: AmidText }, { additionalProperties: false })
const Nothing = Type.Object({}, { description: 'Nothing is asked' })

export function addAuthorityRoutes(
  app: FastifyInstance,
  context: Context,
  certification: Certification | undefined,
): void {
  const { limits, store } = context
  /** @throws TIER_UNAVAILABLE */
  const certifier = (): Certification => {
    if (certification === undefined) {
      throw new AgentMeshError('TIER_UNAVAILABLE', 'This registry has no certificate authority')
    }
    return certification
  }
  /** @throws TIER_UNAVAILABLE, NOT_REGISTERED: who is not in the registry cannot use it, which ties every limit to a registration */
  const certifierFor = async (visitor: Visitor): Promise<Certification> => {
    const certifying = certifier()
    if ((await store.getAgent(visitor.amid)) === undefined) throw new AgentMeshError('NOT_REGISTERED')
    return certifying
  }

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/trust',
    tag: 'trust',
    summary: 'The certificates of this registry',
    signed: false,
    answers: { 200: TrustDocument },
    handle: () => ({ status: 200, body: certifier().authority.trustDocument }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/crl/:keyId',
    tag: 'trust',
    summary: 'The newest revocation list of an issuer',
    signed: false,
    params: KeyIdPath,
    perIp: 'listsPerIp',
    answers: { 200: RevocationListBody },
    handle: async ({ params }) => ({
      status: 200,
      body: { crl: await certifier().authority.lists.current(checkKeyId(params['keyId']), context.now()) },
    }),
  })

  addRoute(app, context, {
    method: 'PUT',
    url: '/v1/registry/crl/:keyId',
    tag: 'trust',
    summary: 'Replace the revocation list of an organisation by a newer one of its own',
    signed: true,
    params: KeyIdPath,
    body: RevocationListBody,
    maxBytes: limits.maxListBytes,
    perAgent: 'certificatesPerAgent',
    answers: { 204: Type.Null() },
    handle: async ({ visitor, params, body }) => {
      const { authority } = await certifierFor(visitor)
      const keyId = checkKeyId(params['keyId'])
      await submitList(authority, store, visitor.amid, keyId, fromBase64(body.crl), context.now())
      return { status: 204 }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/certificates/agent',
    tag: 'trust',
    summary:
      'A certificate for the signer: what its organisation issued, or as a person verified it; the one it has when that is new',
    signed: true,
    body: Nothing,
    maxBytes: limits.maxBodyBytes,
    perAgent: 'certificatesPerAgent',
    answers: { 200: CertifiedAgent },
    handle: async ({ visitor }) => {
      const { authority } = await certifierFor(visitor)
      return { status: 200, body: await authority.issueAgent(visitor, context.now()) }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/certificates/submit',
    tag: 'trust',
    summary: 'Log a certificate that an organisation issued, and get the proof',
    signed: true,
    body: CertificateSubmission,
    maxBytes: limits.maxRecordBytes,
    perAgent: 'certificatesPerAgent',
    answers: { 200: CertifiedAgent },
    handle: async ({ visitor, body }) => {
      const { authority } = await certifierFor(visitor)
      return {
        status: 200,
        body: await submitChain(authority, store, visitor.amid, body.chain, context.now()),
      }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/organizations',
    tag: 'trust',
    summary: 'Ask for a domain, and get the DNS record that proves it',
    signed: true,
    body: OrganizationRegistration,
    maxBytes: limits.maxBodyBytes,
    perAgent: 'certificatesPerAgent',
    answers: { 200: DomainChallenge },
    handle: async ({ visitor, body }) => {
      const { organizations } = await certifierFor(visitor)
      return { status: 200, body: await organizations.register(visitor, body, context.now()) }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/organizations/verify',
    tag: 'trust',
    summary: 'Look for the DNS record, and certify the organisation',
    signed: true,
    body: Nothing,
    maxBytes: limits.maxBodyBytes,
    perAgent: 'domainChecksPerAgent',
    answers: { 200: OrganizationRecord },
    handle: async ({ visitor }) => {
      const { organizations } = await certifierFor(visitor)
      return { status: 200, body: await organizations.verify(visitor, context.now()) }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/organizations/:amid',
    tag: 'trust',
    summary: 'An organisation that is or was verified',
    signed: false,
    params: AmidPath,
    answers: { 200: OrganizationRecord },
    handle: async ({ params }) => ({
      status: 200,
      body: await certifier().organizations.get(parseAmid(params['amid'] ?? ''), context.now()),
    }),
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/successions',
    tag: 'trust',
    summary: 'Move what was verified to the signer, by the statement of the old agent’s recovery key',
    signed: true,
    body: Succession,
    maxBytes: limits.maxBodyBytes,
    perAgent: 'certificatesPerAgent',
    answers: { 200: SuccessionAnswer },
    handle: async ({ visitor, body }) => ({
      status: 200,
      body: await succeed({ ...(await certifierFor(visitor)), store }, visitor, body, context.now()),
    }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/successions',
    tag: 'trust',
    summary: 'The statements that an AMID was succeeded, or succeeds others',
    signed: false,
    query: SuccessionsQuery,
    answers: { 200: SuccessionList },
    handle: async ({ query }) => ({
      status: 200,
      body: await successionsOf(store, parseAmid(query.amid)),
    }),
  })
}

/** @throws MALFORMED */
function checkKeyId(text = ''): string {
  if (!/^[0-9a-f]{40}$/.test(text)) throw new AgentMeshError('MALFORMED', 'A key id is 40 hex digits')
  return text
}
