/**
 * How every endpoint is made. One request goes through, cheap before dear:
 *
 *     limits by address -> size -> signature -> limits by AMID -> nonce -> limits shared with other registries -> strict JSON
 *     -> schema -> the endpoint
 *
 * Fastify routes, reads the body up to the limit and closes connections; what it would parse, validate or serialize is
 * done here by wire's own reader and validator, so that a signed object keeps its unknown fields and a refusal its code.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { sha256 } from '@agentmesh/sdk/crypto/signing'
import { addressKey } from '@agentmesh/sdk/hosting'
import { verifyRequest } from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  ErrorBody,
  parseJsonObject,
  toBase64,
  utf8Bytes,
  validate,
  type Amid,
  type JsonObject,
} from '@agentmesh/sdk/wire'
import type { Static, TSchema } from 'typebox'
import { authorize } from './admin/auth.ts'
import { takeShared, takeToken, type Context, type RateName } from './context.ts'
import { describeSchema } from './openapi.ts'

/** The agent that signed the request. */
export interface Visitor {
  readonly amid: Amid
  readonly publicKey: Uint8Array
  /** Where it asks from, as limits count it (`addressKey`). */
  readonly address: string
}

export interface Answer {
  readonly status: number
  readonly body?: unknown
  /** The body, when it is JSON already. */
  readonly text?: string
  /** Begun when the answer is out, so that neither how long it takes nor whether it is done shows in the answer's time. */
  readonly after?: () => void
}

interface RouteBase<Query extends TSchema, Body extends TSchema> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly url: string
  readonly tag: string
  readonly summary: string
  /** Path parameters, for the OpenAPI document. */
  readonly params?: TSchema
  readonly query?: Query
  readonly body?: Body
  /** Bytes; required with `body`. */
  readonly maxBytes?: number
  readonly perIp?: RateName
  /** Answers on success by status. */
  readonly answers: Readonly<Record<number, TSchema>>
}

export interface Input<Query extends TSchema, Body extends TSchema> {
  readonly query: Static<Query>
  /** Path parameters, decoded; as unchecked as anything else in a request. */
  readonly params: Readonly<Record<string, string>>
  readonly body: Static<Body>
  /** The same object as `body`, for what signatures cover. */
  readonly raw: JsonObject
}

export interface PublicRoute<Query extends TSchema, Body extends TSchema> extends RouteBase<Query, Body> {
  readonly signed: false
  readonly handle: (input: Input<Query, Body>) => Answer | Promise<Answer>
}

export interface SignedRoute<Query extends TSchema, Body extends TSchema> extends RouteBase<Query, Body> {
  readonly signed: true
  readonly perAgent?: RateName
  readonly handle: (input: Input<Query, Body> & { readonly visitor: Visitor }) => Promise<Answer>
}

/** For an operator: a bearer token instead of an agent's signature. */
export interface AdminRoute<Query extends TSchema, Body extends TSchema> extends RouteBase<Query, Body> {
  readonly signed: 'admin'
  readonly handle: (input: Input<Query, Body> & { readonly who: string }) => Promise<Answer>
}

export function addRoute<Query extends TSchema, Body extends TSchema>(
  app: FastifyInstance,
  context: Context,
  route: PublicRoute<Query, Body> | SignedRoute<Query, Body> | AdminRoute<Query, Body>,
): void {
  const described = (schema: TSchema) => describeSchema(app, schema)
  const answers: Record<string, object> = { '4xx': described(ErrorBody), '5xx': described(ErrorBody) }
  for (const [status, schema] of Object.entries(route.answers)) answers[status] = described(schema)
  app.route({
    method: route.method,
    url: route.url,
    bodyLimit: route.maxBytes ?? context.limits.maxBodyBytes,
    schema: {
      summary: route.summary,
      tags: [route.tag],
      ...(route.params === undefined ? {} : { params: route.params }),
      ...(route.query === undefined ? {} : { querystring: route.query }),
      ...(route.body === undefined ? {} : { body: described(route.body) }),
      ...(route.signed === false
        ? {}
        : { security: [route.signed === 'admin' ? { adminToken: [] } : { httpSignature: [] }] }),
      response: answers,
    },
    handler: async (request, reply) => {
      if (route.perIp !== undefined) takeToken(context, route.perIp, addressKey(request.ip))
      const body = request.body instanceof Uint8Array ? request.body : new Uint8Array(0)
      const read = () => readInput(route, request, body)
      // The signature comes before its body is parsed.
      if (route.signed === 'admin') {
        const who = authorize(context.administrators, request.headers.authorization)
        return send(reply, await route.handle({ who, ...read() }))
      }
      const answer = route.signed
        ? await route.handle({ visitor: await authenticate(context, route, request, body), ...read() })
        : await route.handle(read())
      return send(reply, answer)
    },
  })
}

/** @throws MALFORMED, and what the strict JSON reader throws */
function readInput<Query extends TSchema, Body extends TSchema>(
  route: RouteBase<Query, Body>,
  request: FastifyRequest,
  body: Uint8Array,
): Input<Query, Body> {
  const raw = route.body === undefined ? {} : parseJsonObject(body, route.maxBytes ?? 0)
  return {
    query: route.query === undefined ? undefined : validate(route.query, request.query, 'read the query'),
    params: request.params as Record<string, string>,
    body: route.body === undefined ? undefined : validate(route.body, raw, 'read the body'),
    raw,
  } as Input<Query, Body>
}

/** @throws WRONG_AUTHORITY, RATE_LIMITED, SIGNATURE_REPLAYED, and what `verifyRequest` throws */
async function authenticate(
  context: Context,
  route: { readonly perAgent?: RateName; readonly perIp?: RateName },
  request: FastifyRequest,
  body: Uint8Array,
): Promise<Visitor> {
  const authority = (request.headers.host ?? '').toLowerCase()
  // Else a registry of somebody else's could pass on to us what agents signed for it.
  if (!context.authorities.has(authority)) throw new AgentMeshError('WRONG_AUTHORITY')
  const now = context.now()
  const { amid, publicKey, nonce, nonceExpiresAt } = verifyRequest(
    { method: request.method, authority, target: request.raw.url ?? '', headers: request.headers, body },
    now,
  )
  takeToken(context, 'requestsPerAgent', amid)
  if (route.perAgent !== undefined) takeToken(context, route.perAgent, amid)
  const visit = {
    amid,
    nonce: toBase64(sha256(utf8Bytes(`${amid} ${nonce}`))),
    expiresAt: nonceExpiresAt,
    now,
  }
  if (!(await context.store.admit(visit))) throw new AgentMeshError('SIGNATURE_REPLAYED')
  const address = addressKey(request.ip)
  await takeShared(context, route.perIp, address)
  await takeShared(context, route.perAgent, amid)
  return { amid, publicKey, address }
}

function send(reply: FastifyReply, answer: Answer): FastifyReply {
  // Also where the client did not wait for it: what was asked for is done.
  if (answer.after !== undefined) reply.raw.once('close', answer.after)
  reply.code(answer.status)
  const text = answer.text ?? JSON.stringify(answer.body)
  if (text === undefined) return reply.send()
  return reply.type('application/json; charset=utf-8').send(text)
}
