/** The files of `spec/`, against an independent reading of draft-07 and against the code they are generated from. */
import { readdirSync, readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { describe, expect, it } from 'vitest'
import { ERROR_CODES } from './errors.ts'
import * as wire from './index.ts'

const spec = new URL('../../../../spec/', import.meta.url)
const read = (path: string) => readFileSync(new URL(path, spec), 'utf8')
const files = readdirSync(new URL('schemas/', spec), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.json'))

const inCode = [...Object.values(wire), ...Object.values(wire.JSON_FRAMES)]
  .filter((value: unknown) => typeof value === 'object' && value !== null && '$id' in value)
  .map((value) => value as unknown as { $id: string })

describe.each(files.map((path) => ({ path })))('spec/schemas/$path', ({ path }) => {
  const schema = JSON.parse(read(`schemas/${path}`)) as Record<string, unknown>

  it('is a draft-07 schema, by the meta-schema, that stands alone', () => {
    const ajv = new Ajv({ strict: false, validateFormats: false })
    expect(schema['$schema']).toBe('http://json-schema.org/draft-07/schema#')
    expect(ajv.validateSchema(schema)).toBe(true)
    expect(() => ajv.compile(schema)).not.toThrow()
    expect(JSON.stringify(schema)).not.toContain('$ref')
  })

  it('is named as its file is, and names nothing inside', () => {
    expect(schema['$id']).toBe(`agentmesh/${path.replace(/\.json$/, '')}`)
    expect(JSON.stringify(schema).split('"$id"')).toHaveLength(2)
  })
})

it.each(inCode.map((schema) => ({ $id: schema.$id, schema })))(
  '$schema.$id is published as the code has it',
  ({ schema }) => {
    const { $schema: _, ...published } = JSON.parse(
      read(`schemas/${schema.$id.replace('agentmesh/', '')}.json`),
    ) as Record<string, unknown>
    expect(published).toEqual(JSON.parse(JSON.stringify(schema)))
    expect(read('messages.md')).toContain(`### ${schema.$id.replace('agentmesh/', '')}\n`)
  },
)

it('the meta-schema does refuse what is not draft-07', () => {
  const ajv = new Ajv({ strict: false, logger: false })
  expect(ajv.validateSchema({ $schema: 'http://json-schema.org/draft-07/schema#', type: 'objekt' })).toBe(
    false,
  )
})

it('every error code is listed, once, with its meaning', () => {
  const rows = read('errors.md')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.replaceAll('\\', ''))
  expect(rows).toHaveLength(Object.keys(ERROR_CODES).length)
  for (const [code, { summary }] of Object.entries(ERROR_CODES)) {
    expect(rows.filter((row) => row.startsWith(`| \`${code}\``) && row.includes(summary))).toHaveLength(1)
  }
})
