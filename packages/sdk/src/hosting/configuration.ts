/**
 * A server's configuration, from four sources: option over variable over file over default. Every mistake is found and named at
 * once, with its place; a value is never shown in one.
 */
import type { Static, TObject } from 'typebox'
import { AgentMeshError, parseJsonObject, validate, type JsonObject } from '../wire/index.ts'
import { nearest, settingsOf, type ServerDefinition, type Setting } from './settings.ts'

const MAX_FILE_BYTES = 256 * 1024

/** Options as they were typed, by name without the dashes. */
export type GivenOptions = Readonly<Record<string, string | readonly string[] | undefined>>

export interface Sources {
  readonly options: GivenOptions
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly readFile: (path: string) => Uint8Array
  /** Defaults of this program, by key, over those of the schema. */
  readonly defaults?: Readonly<Record<string, unknown>>
}

export interface Held {
  readonly setting: Setting
  /** Undefined: not set, and no default. */
  readonly value: unknown
  /** `--option`, the variable's name, the file's path, or `default`. */
  readonly source: string
}

export interface Configuration<Schema extends TObject> {
  readonly values: Static<Schema>
  readonly held: readonly Held[]
  /** Variables that begin like ours and that nothing reads. */
  readonly unread: readonly string[]
}

/** @throws CONFIG_INVALID with one line a mistake */
export function readConfiguration<Schema extends TObject>(
  definition: ServerDefinition<Schema>,
  sources: Sources,
): Configuration<Schema> {
  const settings = settingsOf(definition)
  const problems: string[] = []
  const file = readFileValues(definition, settings, sources, problems)
  const held = settings.map((setting) => hold(setting, sources, file, problems))
  if (problems.length > 0) throw invalid(definition, problems)
  const values = {}
  for (const { setting, value } of held) if (value !== undefined) put(values, setting.path, value)
  const known = new Set([...settings.map(({ variable }) => variable), configVariable(definition)])
  const unread = Object.keys(sources.environment).filter(
    (name) => name.startsWith(`${definition.prefix}_`) && !known.has(name),
  )
  return { values: values as Static<Schema>, held, unread }
}

export function invalid(definition: ServerDefinition, problems: readonly string[]): AgentMeshError {
  return new AgentMeshError('CONFIG_INVALID', problems.join('\n'), {
    operation: `configure ${definition.name}`,
  })
}

export function configVariable({ prefix }: ServerDefinition): string {
  return `${prefix}_CONFIG`
}

function hold(
  setting: Setting,
  { options, environment, defaults }: Sources,
  file: FileValues | undefined,
  problems: string[],
): Held {
  const { key, option, variable } = setting
  const given = option === undefined ? undefined : options[option]
  if (option !== undefined && given !== undefined) {
    return {
      setting,
      value: read(setting, fromText(setting, given), `--${option}`, problems),
      source: `--${option}`,
    }
  }
  const text = environment[variable]
  // A variable that is set and empty says nothing.
  if (text !== undefined && text !== '') {
    return { setting, value: read(setting, fromText(setting, text), variable, problems), source: variable }
  }
  if (file?.values.has(key) === true) {
    const value = read(setting, file.values.get(key), `${file.path}: ${key}`, problems)
    return { setting, value, source: file.path }
  }
  return { setting, value: defaults?.[key] ?? setting.fallback, source: 'default' }
}

/** Text that is no number stays text, and the schema says so. */
function fromText({ kind }: Setting, given: string | readonly string[]): unknown {
  if (kind === 'list') {
    const parts = typeof given === 'string' ? given.split(',') : given
    return parts.map((part) => part.trim()).filter((part) => part !== '')
  }
  const text = typeof given === 'string' ? given : (given.at(-1) ?? '')
  if (kind === 'number' && /^-?\d{1,15}(\.\d{1,9})?$/.test(text)) return Number(text)
  if (kind === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

function read(setting: Setting, value: unknown, place: string, problems: string[]): unknown {
  try {
    return validate(setting.schema, value)
  } catch (error) {
    const choices = setting.choices === undefined ? '' : `: ${setting.choices.join(', ')}`
    problems.push(`${place} ${(error as Error).message.replace(/^input /, '')}${choices}`)
    return undefined
  }
}

interface FileValues {
  readonly path: string
  readonly values: ReadonlyMap<string, unknown>
}

function readFileValues(
  definition: ServerDefinition,
  settings: readonly Setting[],
  { options, environment, readFile }: Sources,
  problems: string[],
): FileValues | undefined {
  const path = options['config'] ?? environment[configVariable(definition)]
  if (typeof path !== 'string' || path === '') return undefined
  try {
    const values = new Map<string, unknown>()
    flatten(parseJsonObject(readFile(path), MAX_FILE_BYTES), '', path, settings, values, problems)
    return { path, values }
  } catch (error) {
    problems.push(`${path}: ${(error as Error).message}`)
    return undefined
  }
}

/** Leaves by key. A name that means nothing must not pass for one that was left out. */
function flatten(
  object: JsonObject,
  prefix: string,
  path: string,
  settings: readonly Setting[],
  values: Map<string, unknown>,
  problems: string[],
): void {
  for (const [name, value] of Object.entries(object)) {
    const key = prefix + name
    if (settings.some((setting) => setting.key === key)) values.set(key, value)
    else if (settings.some((setting) => setting.key.startsWith(`${key}.`))) {
      if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
        flatten(value, `${key}.`, path, settings, values, problems)
      } else problems.push(`${path}: ${key} must be object`)
    } else {
      const meant = nearest(
        key,
        settings.map((setting) => setting.key),
      )
      problems.push(`${path}: ${key} is no setting${meant === undefined ? '' : `; did you mean ${meant}?`}`)
    }
  }
}

function put(values: object, path: readonly string[], value: unknown): void {
  let at = values as Record<string, unknown>
  for (const name of path.slice(0, -1)) at = (at[name] ??= {}) as Record<string, unknown>
  at[path.at(-1) ?? ''] = value
}
