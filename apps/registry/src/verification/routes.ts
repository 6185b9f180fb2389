/** The endpoints by which a person vouches for an agent (`spec/registry.md`). What they do is `verifier.ts`. */
import type { FastifyInstance } from 'fastify'
import {
  AgentMeshError,
  VerificationDevice,
  VerificationDeviceFinish,
  VerificationDeviceStarted,
  VerificationEmail,
  VerificationEmailFinish,
  VerificationEmailStarted,
  VerificationFinish,
  VerificationPending,
  VerificationProviders,
  VerificationResult,
  VerificationStart,
  VerificationStarted,
  Type,
} from '@agentmesh/sdk/wire'
import type { Context } from '../context.ts'
import { addRoute } from '../route.ts'
import { RETURN_PATH, type Verifier } from './verifier.ts'

/** What a provider adds to the redirect and the owner's machine needs. */
const RETURNED = ['code', 'state', 'iss', 'error'] as const
const MAX_RETURNED_LENGTH = 2048

/** @param verifier undefined when no providers are configured */
export function addVerificationRoutes(
  app: FastifyInstance,
  context: Context,
  verifier: Verifier | undefined,
): void {
  const maxBytes = context.limits.maxBodyBytes
  /** @throws TIER_UNAVAILABLE */
  const open = (): Verifier => {
    if (verifier === undefined || context.authority === undefined) {
      throw new AgentMeshError('TIER_UNAVAILABLE', 'This registry cannot verify people')
    }
    return verifier
  }

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/verification/providers',
    tag: 'verification',
    summary: 'Where a person can vouch for an agent, and in which ways',
    signed: false,
    answers: { 200: VerificationProviders },
    handle: () => ({
      status: 200,
      body:
        context.authority === undefined ? { providers: [] } : (verifier?.providers() ?? { providers: [] }),
    }),
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/start',
    tag: 'verification',
    summary: 'Begin through the browser: authorization code with PKCE, state and nonce',
    signed: true,
    perIp: 'verificationsPerIp',
    perAgent: 'verificationsPerAgent',
    body: VerificationStart,
    maxBytes,
    answers: { 201: VerificationStarted },
    handle: async ({ visitor, body }) => ({ status: 201, body: await open().start(visitor, body) }),
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/finish',
    tag: 'verification',
    summary: 'End what began through the browser; the attempt is used up, whatever comes of it',
    signed: true,
    body: VerificationFinish,
    maxBytes: 2 * maxBytes,
    perIp: 'verificationsPerIp',
    answers: { 200: VerificationResult },
    handle: async ({ visitor, body }) => ({ status: 200, body: await open().finish(visitor, body) }),
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/device',
    tag: 'verification',
    summary: 'Begin on another device (RFC 8628)',
    signed: true,
    perIp: 'verificationsPerIp',
    perAgent: 'verificationsPerAgent',
    body: VerificationDevice,
    maxBytes,
    answers: { 201: VerificationDeviceStarted },
    handle: async ({ visitor, body }) => ({
      status: 201,
      body: await open().startDevice(visitor, body.provider),
    }),
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/device/finish',
    tag: 'verification',
    summary: 'Ask whether the person has agreed on the other device',
    signed: true,
    body: VerificationDeviceFinish,
    maxBytes,
    answers: { 200: VerificationResult, 202: VerificationPending },
    handle: async ({ visitor, body }) => {
      const answer = await open().finishDevice(visitor, body)
      return { status: 'status' in answer ? 202 : 200, body: answer }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/email',
    tag: 'verification',
    summary: 'Have a code sent by mail; the answer is the same for every address',
    signed: true,
    perIp: 'verificationsPerIp',
    perAgent: 'verificationsPerAgent',
    body: VerificationEmail,
    maxBytes,
    answers: { 202: VerificationEmailStarted },
    handle: async ({ visitor, body }) => {
      const { started, mail } = await open().startEmail(visitor, body.provider, body.address)
      return { status: 202, body: started, after: mail }
    },
  })

  addRoute(app, context, {
    method: 'POST',
    url: '/v1/registry/verification/email/finish',
    tag: 'verification',
    summary: 'Show the code that came by mail; a few tries',
    signed: true,
    body: VerificationEmailFinish,
    maxBytes,
    perIp: 'verificationsPerIp',
    answers: { 200: VerificationResult },
    handle: async ({ visitor, body }) => ({ status: 200, body: await open().finishEmail(visitor, body) }),
  })

  app.get(
    RETURN_PATH,
    {
      schema: {
        summary: 'Sends a browser on to the owner’s machine, for providers that know no loopback addresses',
        tags: ['verification'],
        querystring: Type.Object(
          Object.fromEntries(
            RETURNED.map((field) => [field, Type.Optional(Type.String({ maxLength: MAX_RETURNED_LENGTH }))]),
          ),
        ),
        response: { 303: { description: 'To the loopback address the attempt named', type: 'null' } },
      },
    },
    async (request, reply) => {
      const query = request.query as Readonly<Record<string, unknown>>
      const state = query['state']
      if (typeof state !== 'string' || !/^[A-Za-z0-9_-]{1,64}$/.test(state))
        throw new AgentMeshError('VERIFICATION_UNKNOWN')
      const target = await open().returned(state)
      for (const field of RETURNED) {
        const value = query[field]
        if (typeof value === 'string' && value.length <= MAX_RETURNED_LENGTH)
          target.searchParams.set(field, value)
      }
      return reply.code(303).header('referrer-policy', 'no-referrer').header('location', target.href).send()
    },
  )
}
