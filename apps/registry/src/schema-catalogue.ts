/** The JSON Schemas that the registry publishes (specification §6.4): the standard schemas, as `spec/schemas/` has them. */
import {
  AgentMeshError,
  schemaDocument,
  STANDARD_SCHEMAS,
  validate,
  type StandardSchemaName,
  Type,
} from '@agentmesh/sdk/wire'

/** What a published schema must say about itself. */
const Described = Type.Object({ title: Type.String(), description: Type.String() })

export interface SchemaSummary {
  readonly name: string
  readonly title: string
  readonly description: string
}

export class SchemaCatalogue {
  readonly #schemas = new Map<string, Record<string, unknown>>()
  readonly summaries: readonly SchemaSummary[]

  constructor() {
    const names = Object.keys(STANDARD_SCHEMAS).toSorted() as StandardSchemaName[]
    this.summaries = names.map((name) => {
      const schema = schemaDocument(name)
      this.#schemas.set(name, schema)
      const { title, description } = validate(Described, schema, 'publish a schema')
      return { name, title, description }
    })
  }

  /** @throws NOT_FOUND */
  get(name: string): Record<string, unknown> {
    const schema = this.#schemas.get(name)
    if (schema === undefined) throw new AgentMeshError('NOT_FOUND', 'No schema of this name is published')
    return schema
  }
}
