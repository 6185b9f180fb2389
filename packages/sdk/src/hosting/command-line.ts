/** The configuration as text: options read, help and `--check-config` written. */
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { configVariable, invalid, type Configuration, type GivenOptions } from './configuration.ts'
import { nearest, optionForm, settingsOf, type ServerDefinition, type Setting } from './settings.ts'

export interface CommandLine {
  readonly options: GivenOptions
  readonly help: boolean
  readonly checkConfig: boolean
}

type Options = NonNullable<ParseArgsConfig['options']>

/** What a server knows beside its settings. */
const COMMON: Options = {
  config: { type: 'string' },
  'check-config': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
}

/** Without the dashes. */
export function optionNames(definition: ServerDefinition): readonly string[] {
  return [...Object.keys(COMMON), ...settingsOf(definition).flatMap(({ option }) => option ?? [])]
}

/** @throws CONFIG_INVALID for an option that is none, and one that lacks its value */
export function readCommandLine(definition: ServerDefinition, args: readonly string[]): CommandLine {
  const options = { ...COMMON }
  for (const { option, kind } of settingsOf(definition)) {
    if (option !== undefined) options[option] = { type: 'string', multiple: kind === 'list' }
  }
  try {
    const { values } = parseArgs({ args: [...args], options, strict: true, allowPositionals: false })
    const { help, 'check-config': checkConfig, ...given } = values
    return { options: given as GivenOptions, help: help === true, checkConfig: checkConfig === true }
  } catch (error) {
    throw invalid(definition, [explain(error as Error, definition)])
  }
}

function explain(error: Error, definition: ServerDefinition): string {
  const unknown = /^Unknown option '--([^']+)'/.exec(error.message)?.[1]
  if (unknown === undefined) return error.message
  const secret = settingsOf(definition).find((each) => each.secret && optionForm(each.key) === unknown)
  if (secret !== undefined) {
    const { key, variable } = secret
    return `--${unknown} is no option, since everybody on the machine can read those: set ${variable}, or ${key} in a file`
  }
  const meant = nearest(unknown, optionNames(definition))
  return `--${unknown} is no option${meant === undefined ? '' : `; did you mean --${meant}?`}`
}

const COLUMN = 34

/** One option a line, the limits behind the others. */
export function optionsHelp(definition: ServerDefinition): string {
  const settings = settingsOf(definition).filter(({ option }) => option !== undefined)
  const isLimit = ({ path }: Setting) => path[0] === 'limit'
  const line = (left: string, right: string) =>
    `  ${left.length < COLUMN ? left.padEnd(COLUMN) : `${left}\n  ${' '.repeat(COLUMN)}`}${right}`
  const describe = (setting: Setting) =>
    line(`--${setting.option} <${placeholder(setting)}>`, `${setting.description}${notes(setting)}`)
  return [
    'Options:',
    line('--config <file>', `JSON file with settings (env: ${configVariable(definition)})`),
    line('--check-config', 'say what holds and from where, and end: 0 when good, 2 when not'),
    line('-h, --help', 'show this'),
    ...settings.filter((setting) => !isLimit(setting)).map(describe),
    '',
    'Limits:',
    ...settings.filter(isLimit).map(describe),
    '',
  ].join('\n')
}

function placeholder({ kind, choices }: Setting): string {
  if (choices !== undefined) return 'level'
  return kind === 'number' ? 'n' : 'text'
}

function notes({ kind, choices, fallback, variable }: Setting): string {
  const facts = [
    ...(choices === undefined ? [] : [choices.join(', ')]),
    ...(kind === 'list' ? ['may be given again'] : []),
    ...(fallback === undefined ? [] : [`default: ${valueText(fallback)}`]),
    `env: ${variable}`,
  ]
  return ` (${facts.join('; ')})`
}

export function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.join(', ')
  if (typeof value === 'number' && !Number.isInteger(value)) return String(Number(value.toPrecision(4)))
  return String(value)
}

interface ShownSetting {
  readonly key: string
  /** Null where nothing is set; `****` for a secret. */
  readonly value: unknown
  readonly source: string
}

export function shown({ held }: Configuration<never>): readonly ShownSetting[] {
  return held.map(({ setting, value, source }) => ({
    key: setting.key,
    value: value === undefined ? null : setting.secret ? '****' : value,
    source,
  }))
}

/** What `--check-config` prints for people. */
export function configurationText(configuration: Configuration<never>): string {
  const rows = shown(configuration).map(
    ({ key, value, source }) => [key, value === null ? '-' : valueText(value), source] as const,
  )
  const width = (column: 0 | 1) => Math.max(...rows.map((row) => row[column].length))
  const [keys, values] = [width(0), width(1)]
  return [
    ...rows.map(([key, value, source]) => `${key.padEnd(keys)}  ${value.padEnd(values)}  ${source}`),
    ...configuration.unread.map((name) => `${name} is set, and nothing reads it`),
    'configuration is good',
  ].join('\n')
}
