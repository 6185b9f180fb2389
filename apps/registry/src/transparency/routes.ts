/** The endpoints of the transparency log: open to everybody, for a log nobody can look into proves nothing. */
import type { FastifyInstance } from 'fastify'
import {
  CertificateProof,
  ConsistencyProof,
  InclusionProof,
  LogEntries,
  MAX_LOG_PAGE_ENTRIES,
  TreeHead,
  Type,
} from '@agentmesh/sdk/wire'
import { authorityOf } from '../authority/authority.ts'
import type { Context } from '../context.ts'
import { addRoute } from '../route.ts'
import { TransparencyLog } from './transparency-log.ts'

const Place = (description: string) => Type.String({ pattern: '^(0|[1-9][0-9]{0,14})$', description })
const ProofQuery = Type.Object(
  { index: Place('Of the entry'), size: Place('Of the tree, more than the index') },
  { additionalProperties: false },
)
const ConsistencyQuery = Type.Object(
  { from: Place('Size of the older tree'), to: Place('Size of the newer tree') },
  { additionalProperties: false },
)
const EntriesQuery = Type.Object(
  {
    start: Place('Index of the first entry'),
    limit: Type.Optional(
      Type.String({ pattern: '^[1-9][0-9]{0,5}$', description: `At most ${MAX_LOG_PAGE_ENTRIES} are given` }),
    ),
  },
  { additionalProperties: false },
)
const CertificateQuery = Type.Object(
  { certificate: Type.String({ pattern: '^[0-9a-f]{64}$', description: 'Hex SHA-256 of its DER' }) },
  { additionalProperties: false },
)

export function addTransparencyRoutes(app: FastifyInstance, context: Context): void {
  let opened: TransparencyLog | undefined
  /** @throws TIER_UNAVAILABLE: who certifies nobody has nothing to log */
  const log = (): TransparencyLog => {
    opened ??= new TransparencyLog(context.store.transparency, authorityOf(context))
    return opened
  }

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/log/head',
    summary: 'The signed head of the log as it is',
    tag: 'transparency',
    signed: false,
    perIp: 'logReadsPerIp',
    answers: { 200: TreeHead },
    handle: async () => ({ status: 200, body: await log().head(context.now()) }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/log/proof',
    summary: 'The inclusion path of an entry in the tree of a size',
    query: ProofQuery,
    tag: 'transparency',
    signed: false,
    perIp: 'logReadsPerIp',
    answers: { 200: InclusionProof },
    handle: async ({ query }) => ({
      status: 200,
      body: await log().inclusion(Number(query.index), Number(query.size)),
    }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/log/consistency',
    summary: 'The consistency path between the trees of two sizes',
    query: ConsistencyQuery,
    tag: 'transparency',
    signed: false,
    perIp: 'logReadsPerIp',
    answers: { 200: ConsistencyProof },
    handle: async ({ query }) => ({
      status: 200,
      body: await log().consistency(Number(query.from), Number(query.to)),
    }),
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/log/entries',
    summary: 'A page of entries; ask again from where it ends',
    query: EntriesQuery,
    tag: 'transparency',
    signed: false,
    perIp: 'logReadsPerIp',
    answers: { 200: LogEntries },
    handle: async ({ query }) => {
      const limit = Math.min(Number(query.limit ?? MAX_LOG_PAGE_ENTRIES), MAX_LOG_PAGE_ENTRIES)
      return {
        status: 200,
        body: await log().entries(Number(query.start), limit, context.limits.maxPageBytes),
      }
    },
  })

  addRoute(app, context, {
    method: 'GET',
    url: '/v1/registry/certificates/proof',
    summary: 'The proof that a certificate is in the log, under the newest head',
    query: CertificateQuery,
    tag: 'transparency',
    signed: false,
    perIp: 'logReadsPerIp',
    answers: { 200: CertificateProof },
    handle: async ({ query }) => ({
      status: 200,
      body: await log().certificateProof(query.certificate, context.now()),
    }),
  })
}
