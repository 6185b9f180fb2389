/**
 * The JSON Schemas that the registry publishes (specification §6.4): the files of `schemas/`, each named by its `$id`.
 * They are served as they are and never compiled here.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { AgentMeshError, parseJsonObject, SchemaName, validate, type JsonObject } from '@agentmesh/sdk/wire'
import { Type } from 'typebox'

/** Both `src` and the built `dist` stand beside the package's `src/schemas`. */
const FOLDER = new URL('../src/schemas/', import.meta.url)
const MAX_SCHEMA_BYTES = 64 * 1024

/** What a published schema must say about itself. */
const Described = Type.Object({ title: Type.String(), description: Type.String() })

export interface SchemaSummary {
  readonly name: string
  readonly title: string
  readonly description: string
}

export class SchemaCatalogue {
  readonly #schemas = new Map<string, JsonObject>()
  readonly summaries: readonly SchemaSummary[]

  constructor(schemas: readonly JsonObject[]) {
    const summaries: SchemaSummary[] = []
    for (const schema of schemas) {
      const name = validate(SchemaName, schema['$id'], 'publish a schema')
      this.#schemas.set(name, schema)
      const { title, description } = validate(Described, schema, 'publish a schema')
      summaries.push({ name, title, description })
    }
    this.summaries = summaries.toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** @throws NOT_FOUND */
  get(name: string): JsonObject {
    const schema = this.#schemas.get(name)
    if (schema === undefined) throw new AgentMeshError('NOT_FOUND', 'No schema of this name is published')
    return schema
  }
}

export function loadSchemas(): SchemaCatalogue {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith('.json'))
  return new SchemaCatalogue(
    files.map((file) => parseJsonObject(readFileSync(new URL(file, FOLDER)), MAX_SCHEMA_BYTES)),
  )
}
