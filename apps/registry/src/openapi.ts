/** The OpenAPI document, made from the same TypeBox schemas that validate. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import { PROTOCOL_VERSION } from '@agentmesh/sdk/wire'
import type { FastifyInstance } from 'fastify'
import type { TSchema } from 'typebox'

export function openApiOptions(publicUrl: string | undefined): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'AgentMesh registry',
        version: PROTOCOL_VERSION,
        description:
          'Agents register, find each other by capability, and leave prekeys. Errors are an ErrorBody with a stable code.',
        license: { name: 'Apache-2.0' },
      },
      ...(publicUrl === undefined ? {} : { servers: [{ url: publicUrl }] }),
      tags: [
        { name: 'agents', description: 'Records, search, presence, DID documents' },
        { name: 'trust', description: 'Certificates, revocation, organisations, succession' },
        { name: 'prekeys', description: 'Keys a KNOCK starts from' },
        { name: 'transparency', description: 'The log of everything the registry certified' },
        { name: 'verification', description: 'A person vouches for an agent' },
        { name: 'reputation', description: 'Feedback after sessions, scores, credentials' },
        { name: 'admin', description: 'Reviews, revocation, bans, export: for the operator' },
        { name: 'catalogue', description: 'Taxonomy and published schemas' },
        { name: 'operation', description: 'For whoever runs the server' },
      ],
      components: {
        securitySchemes: {
          adminToken: { type: 'http', scheme: 'bearer', description: 'A token of an operator' },
          httpSignature: {
            type: 'apiKey',
            in: 'header',
            name: 'Signature',
            description:
              'RFC 9421 with Ed25519: Signature, Signature-Input, AgentMesh-Key and, with a body, Content-Digest.',
          },
        },
      },
    },
    refResolver: {
      buildLocalReference: (json, _baseUri, _fragment, index) =>
        typeof json['$id'] === 'string' ? json['$id'] : `def-${index}`,
    },
  }
}

/** A schema that has a name of its own becomes a component of the document, and the route refers to it. */
export function describeSchema(app: FastifyInstance, schema: TSchema): TSchema | { $ref: string } {
  const id = (schema as { $id?: unknown }).$id
  if (typeof id !== 'string') return schema
  const name = componentName(id)
  if (app.getSchema(name) === undefined) app.addSchema({ ...schema, $id: name })
  return { $ref: `${name}#` }
}

/** `agentmesh/agent-record` -> `AgentRecord` */
function componentName(id: string): string {
  return id
    .replace(/^agentmesh\//, '')
    .split(/[/-]/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('')
}
