/** What is the same for everybody: taxonomy, published schemas (specification §3.2, §6.4), health, metrics, OpenAPI. */
import type { FastifyInstance } from 'fastify'
import { TAXONOMY } from '@agentmesh/sdk/wire'
import { Type } from 'typebox'
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

export function addOperationRoutes(app: FastifyInstance, context: Context): void {
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
      await context.store.ping()
      return { status: 200, body: { status: 'ok' } }
    },
  })

  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
    reply.type(context.metrics.contentType).send(await context.metrics.text()),
  )

  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
}
