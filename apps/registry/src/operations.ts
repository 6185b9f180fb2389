/** What is the same for everybody: taxonomy, published schemas (specification §3.2, §6.4), health, metrics, OpenAPI. */
import type { RequestListener } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { AgentMeshError, TAXONOMY, Type } from '@agentmesh/sdk/wire'
import type { Context } from './context.ts'
import { addRoute } from './route.ts'

const Status = Type.Object({ status: Type.Literal('ok') })
const TaxonomyAnswer = Type.Object({
  categories: Type.Record(Type.String(), Type.Array(Type.String())),
  extension: Type.String({ description: 'How a category outside the list is written' }),
})
const SchemaList = Type.Object({
  schemas: Type.Array(Type.Object({ name: Type.String(), title: Type.String(), description: Type.String() })),
})
const JsonSchema = Type.Record(Type.String(), Type.Unknown(), { description: 'A draft-07 JSON Schema' })

export function addCatalogueRoutes(app: FastifyInstance, context: Context): void {
  const { schemas } = context

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/taxonomy',
    tag: 'catalogue',
    summary: 'The standard capability categories and their subcategories',
    signed: false,
    answers: { 200: TaxonomyAnswer },
    handle: () => ({
      status: 200,
      body: { categories: TAXONOMY, extension: 'x-<namespace>/<category>' },
    }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/schemas',
    tag: 'catalogue',
    summary: 'The published JSON Schemas',
    signed: false,
    answers: { 200: SchemaList },
    handle: () => ({ status: 200, body: { schemas: schemas.summaries } }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/schemas/*',
    tag: 'catalogue',
    summary: 'One published JSON Schema, by its name such as agentmesh/travel/flight-search/v1',
    signed: false,
    params: Type.Object({ '*': Type.String() }),
    answers: { 200: JsonSchema },
    handle: ({ params }) => ({ status: 200, body: schemas.get(params['*'] ?? '') }),
  })
}

/** @param metrics whether this port has them */
export function addOperationRoutes(app: FastifyInstance, context: Context, metrics: boolean): void {
  addRoute(app, context, {
    method: 'GET',
    url: '/healthz',
    tag: 'operation',
    summary: 'The process answers',
    signed: false,
    answers: { 200: Status },
    handle: () => ({ status: 200, body: { status: 'ok' } }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/readyz',
    tag: 'operation',
    summary: 'The process and its database answer',
    signed: false,
    answers: { 200: Status },
    handle: async () => {
      if (context.leaving.aborted) throw new AgentMeshError('REGISTRY_SHUTTING_DOWN')
      await context.store.ping()
      return { status: 200, body: { status: 'ok' } }
    },
  })

  if (metrics) {
    app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
      reply.type(context.metrics.contentType).send(await context.metrics.text()),
    )
  }

  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
}

const notFound = () => Promise.resolve([404, 'Not found\n'] as const)

/** The same at the port for operators. */
export function operatorListener(context: Context): RequestListener {
  const byPath: Readonly<Record<string, () => Promise<readonly [number, string, string?]>>> = {
    '/healthz': () => Promise.resolve([200, 'ok\n']),
    '/readyz': async () => {
      const answers = context.store.ping().then(
        () => true,
        () => false,
      )
      const ready = !context.leaving.aborted && (await answers)
      return ready ? [200, 'ready\n'] : [503, 'not ready\n']
    },
    '/metrics': async () => [200, await context.metrics.text(), context.metrics.contentType],
  }
  return (request, response) => {
    const answer = byPath[(request.url ?? '').split('?', 1)[0] ?? ''] ?? notFound
    answer().then(
      ([status, body, type = 'text/plain']) =>
        response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body),
      () => response.destroy(),
    )
  }
}
