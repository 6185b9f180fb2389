/**
 * Checks what requests and responses hold against the schema that applies (specification §6.4, spec/schemas.md).
 *
 *     request    intent with subcategory and action -> standard request schema
 *                intent without one of them         -> the schema that `response_format.schema` answers, if it agrees
 *     response   `schema` of the response, else the one the request asked for
 *
 * A `SchemaBook` holds the standard schemas and what the owner installed. Every other schema, a peer's `x-` schema or a
 * later version of a standard one, is data: it is never compiled, and what names it is not checked.
 *
 * Modes: `strict` refuses what does not fit, `warn` lets it pass and says what is wrong, `off` looks at nothing.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import {
  AgentMeshError,
  isAgentMeshError,
  MAX_ERROR_MESSAGE_LENGTH,
  parseJsonObject,
  SCHEMA_FORMATS,
  SchemaName,
  standardSchema,
  STANDARD_SCHEMAS,
  validate,
  type ErrorPayload,
  type Intent,
  type RequestPayload,
  type ResponsePayload,
  type StandardSchema,
} from '../wire/index.ts'
import { guardSchema, MAX_SCHEMA_BYTES } from './schema-guard.ts'

export type SchemaMode = 'strict' | 'warn' | 'off'

/** `path` may hold names a peer chose: escape it where a person sees it. */
export interface SchemaProblem {
  /** Names from the top, separated by dots; empty for the value itself. */
  readonly path: string
  readonly problem: string
}

export interface SchemaCheck {
  /** Whether the value may be used: false only in mode `strict`, for a value that does not fit. */
  readonly ok: boolean
  readonly outcome: 'fits' | 'does_not_fit' | 'not_checked'
  /** The schema that applies, known to us or not. */
  readonly schema?: string
  readonly problems: readonly SchemaProblem[]
}

export interface InstalledSchema {
  readonly name: string
  readonly title?: string
  readonly description?: string
}

type Kind = StandardSchema['kind']

const MAX_PROBLEMS = 20
const MAX_PROBLEM_TEXT = 256
/** Above this size of a value only the first problem is told: collecting all of them takes memory per problem. */
const MAX_FULL_REPORT_CHARACTERS = 8192
const MAX_INSTALLED = 256

/** Which request schema an intent asks for, by `response_format.schema` where the intent is not complete. */
export function requestSchemaOf(
  request: Pick<RequestPayload, 'intent' | 'response_format'>,
): string | undefined {
  const { intent, response_format } = request
  if (intent.subcategory !== undefined && intent.action !== undefined) {
    return Object.keys(STANDARD_SCHEMAS).find((name) => covers(standardSchema(name), intent))
  }
  const asked = response_format?.schema === undefined ? undefined : standardSchema(response_format.schema)
  if (asked?.kind !== 'response') return undefined
  return covers(standardSchema(asked.answers), intent) ? asked.answers : undefined
}

function covers(entry: StandardSchema | undefined, { category, subcategory, action }: Intent): boolean {
  if (entry?.kind !== 'request' || entry.intent.category !== category) return false
  const { subcategories, actions } = entry.intent
  return (
    (subcategory === undefined || subcategories.includes(subcategory)) &&
    (action === undefined || actions.includes(action))
  )
}

export class SchemaBook {
  readonly #installed = new Map<string, { schema: InstalledSchema; document: object }>()
  /** Fails at the first problem, so that no value makes it collect thousands. */
  readonly #first = compiler(false)
  readonly #all = compiler(true)

  /**
   * Takes a schema the owner chose, as the text of its file, and returns what it says about itself. The same name again
   * replaces. `schema-guard.ts` says what is taken.
   *
   * @throws SCHEMA_INVALID for everything else, and for the name of a standard schema
   */
  install(text: string | Uint8Array): InstalledSchema {
    const document = readSchema(text)
    const name = nameOf(document['$id'])
    if (standardSchema(name)) throw invalid(`${name} is a standard schema`)
    if (!this.#installed.has(name) && this.#installed.size >= MAX_INSTALLED) {
      throw invalid(`There are ${MAX_INSTALLED} installed schemas, which is the most`)
    }
    guardSchema(document)
    const { $id: _, ...body } = document
    try {
      this.#first.compile(body)
    } catch (cause) {
      throw invalid(cause instanceof Error ? cause.message.slice(0, MAX_PROBLEM_TEXT) : 'Not a schema', cause)
    }
    const { title, description } = document
    const schema = {
      name,
      ...(typeof title === 'string' ? { title } : {}),
      ...(typeof description === 'string' ? { description } : {}),
    }
    this.#installed.set(name, { schema, document: body })
    return schema
  }

  /** What the owner installed, by name. */
  installed(): InstalledSchema[] {
    return [...this.#installed.values()]
      .map(({ schema }) => schema)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** Checks the parameters of a request. */
  checkRequest(request: RequestPayload, mode: SchemaMode): SchemaCheck {
    return this.checkParameters(requestSchemaOf(request), request.parameters, mode)
  }

  /**
   * Checks the results of a response, `failure` apart, which has none. Where the request asked for structured results of a
   * schema, a response that names another does not fit.
   */
  checkResponse(
    response: ResponsePayload,
    mode: SchemaMode,
    request?: Pick<RequestPayload, 'response_format'>,
  ): SchemaCheck {
    const format = request?.response_format
    const asked = format?.type === 'structured' ? format.schema : undefined
    const name = response.schema ?? asked
    if (response.status === 'failure') return notChecked(name)
    if (mode !== 'off' && name !== undefined && asked !== undefined && name !== asked) {
      return failed(name, mode, [{ path: 'schema', problem: `is not ${asked}, which was asked for` }])
    }
    return this.checkResults(name, response.results, mode)
  }

  checkParameters(name: string | undefined, value: unknown, mode: SchemaMode): SchemaCheck {
    return this.#check(name, 'request', value, mode)
  }

  checkResults(name: string | undefined, value: unknown, mode: SchemaMode): SchemaCheck {
    return this.#check(name, 'response', value, mode)
  }

  #check(name: string | undefined, kind: Kind, value: unknown, mode: SchemaMode): SchemaCheck {
    if (name === undefined || mode === 'off') return notChecked(name)
    const standard = standardSchema(name)
    if (standard && standard.kind !== kind) {
      const problem = kind === 'request' ? 'is not one of parameters' : 'is not one of results'
      return failed(name, mode, [{ path: 'schema', problem }])
    }
    const schema = standard?.schema ?? this.#installed.get(name)?.document
    if (schema === undefined) return notChecked(name)
    const first = this.#first.compile(schema)
    if (first(value)) return { ok: true, outcome: 'fits', schema: name, problems: [] }
    return failed(name, mode, problemsOf(this.#report(schema, first, value)))
  }

  #report(schema: object, first: ValidateFunction, value: unknown): ErrorObject[] {
    const errors = first.errors ?? []
    if (value !== undefined && JSON.stringify(value).length > MAX_FULL_REPORT_CHARACTERS) return errors
    const all = this.#all.compile(schema)
    return all(value) ? errors : (all.errors ?? errors)
  }
}

/** The ERROR that answers a request which did not fit: says which fields, and never what they held. */
export function mismatchError(check: SchemaCheck): ErrorPayload {
  const lines = check.problems.map(({ path, problem }) => (path === '' ? problem : `${path} ${problem}`))
  const text = `${check.schema ?? 'The schema'}: ${lines.join('; ')}`
  return { code: 'SCHEMA_MISMATCH', message: cut(text, MAX_ERROR_MESSAGE_LENGTH) }
}

/** By code points, so that no surrogate is left alone. */
function cut(text: string, maxLength: number): string {
  return Array.from(text).slice(0, maxLength).join('')
}

function compiler(allErrors: boolean): Ajv {
  const ajv = new Ajv({
    allErrors,
    strict: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    ownProperties: true,
    addUsedSchema: false,
    logger: false,
  })
  for (const [name, check] of Object.entries(SCHEMA_FORMATS))
    ajv.addFormat(name, { type: 'string', validate: check })
  return ajv
}

function readSchema(text: string | Uint8Array) {
  try {
    return parseJsonObject(text, MAX_SCHEMA_BYTES)
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : 'Not JSON', cause)
  }
}

function nameOf(id: unknown): string {
  try {
    return validate(SchemaName, id)
  } catch (cause) {
    if (!isAgentMeshError(cause)) throw cause
    throw invalid('$id must be the name of the schema, such as x-acme/parts/v1', cause)
  }
}

function invalid(problem: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('SCHEMA_INVALID', problem, { operation: 'install a schema', cause })
}

function notChecked(name: string | undefined): SchemaCheck {
  return { ok: true, outcome: 'not_checked', problems: [], ...(name === undefined ? {} : { schema: name }) }
}

function failed(name: string, mode: SchemaMode, problems: readonly SchemaProblem[]): SchemaCheck {
  return { ok: mode !== 'strict', outcome: 'does_not_fit', schema: name, problems }
}

/** One entry a path, with everything that is wrong there. */
function problemsOf(errors: readonly ErrorObject[]): SchemaProblem[] {
  const byPath = new Map<string, Set<string>>()
  for (const error of errors) {
    const { path, problem } = problemOf(error)
    const there = byPath.get(path)
    if (there) there.add(problem)
    else if (byPath.size < MAX_PROBLEMS) byPath.set(path, new Set([problem]))
  }
  return Array.from(byPath, ([path, there]) => ({
    path,
    problem: cut([...there].join(', '), MAX_PROBLEM_TEXT),
  }))
}

function problemOf({ instancePath, keyword, params, message = 'is not valid' }: ErrorObject): SchemaProblem {
  const names = instancePath.split('/').slice(1)
  const path = names.map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
  const { missingProperty, allowedValues } = params as { missingProperty?: string; allowedValues?: unknown[] }
  if (keyword === 'required' && missingProperty !== undefined) {
    return { path: cut([...path, missingProperty].join('.'), MAX_PROBLEM_TEXT), problem: 'is missing' }
  }
  const problem =
    keyword === 'enum' && allowedValues ? `must be one of ${allowedValues.map(String).join(', ')}` : message
  return { path: cut(path.join('.'), MAX_PROBLEM_TEXT), problem }
}
