/**
 * What an operator may set, from one TypeBox object a server. Its leaves are the settings; of each follow, by rule, the names
 * under which it is given:
 *
 *     limit.maxSockets   file  { "limit": { "max_sockets": 20000 } }
 *                        variable  AGENTMESH_RELAY_LIMIT_MAX_SOCKETS
 *                        option    --limit-max-sockets
 *
 * Lists are lists in the file, separated by commas in a variable, and an option that may be given again.
 */
import type { TObject, TSchema } from 'typebox'

/** What a leaf may say of itself beside JSON Schema's own words. */
export interface SettingNotes {
  /** Variable with a name of its own, such as DATABASE_URL. */
  readonly variable?: string
  /** Option with a name of its own: a list's singular. */
  readonly option?: string
  /** Never shown, and without an option, since everybody on the machine can read arguments. */
  readonly secret?: true
}

export interface Setting {
  /** In the file, with dots between the levels. */
  readonly key: string
  /** In the values handed to the server. */
  readonly path: readonly string[]
  readonly variable: string
  readonly option: string | undefined
  readonly secret: boolean
  readonly kind: 'string' | 'number' | 'boolean' | 'list'
  readonly choices: readonly string[] | undefined
  readonly fallback: unknown
  readonly description: string
  /** Plain JSON Schema of the value. */
  readonly schema: TSchema
}

/** What a server's settings are made of; programs that only pass it on need not name the library. */
export type SettingsSchema = TObject

export interface ServerDefinition<Schema extends TObject = TObject> {
  /** As in `agentmesh relay`. */
  readonly name: string
  /** Of the variables. */
  readonly prefix: string
  readonly schema: Schema
}

type Leaf = TSchema &
  SettingNotes & {
    readonly type?: string
    readonly enum?: readonly string[]
    readonly default?: unknown
    readonly description?: string
    readonly properties?: Readonly<Record<string, Leaf>>
  }

export function settingsOf({ prefix, schema }: ServerDefinition): readonly Setting[] {
  return walk(schema, [], prefix)
}

function walk(node: Leaf, path: readonly string[], prefix: string, about = ''): Setting[] {
  if (node.properties === undefined) return [settingOf(node, path, prefix, about)]
  // A group that is one thing to the operator, such as a rate, says so once for its parts.
  const described = node.description === undefined ? about : `${node.description}: `
  return Object.entries(node.properties).flatMap(([name, child]) =>
    walk(child, [...path, name], prefix, described),
  )
}

function settingOf(leaf: Leaf, path: readonly string[], prefix: string, about: string): Setting {
  const { variable, option, secret, ...schema } = leaf
  const snake = path.map(snakeCase)
  const key = snake.join('.')
  return {
    key,
    path,
    variable: variable ?? [prefix, ...snake].join('_').toUpperCase(),
    option: secret === true ? undefined : (option ?? optionForm(key)),
    secret: secret === true,
    kind: kindOf(leaf),
    choices: leaf.enum,
    fallback: leaf.default,
    description: about + (leaf.description ?? ''),
    schema: schema,
  }
}

export function optionForm(key: string): string {
  return key.replaceAll(/[._]/g, '-')
}

function kindOf({ type }: Leaf): Setting['kind'] {
  if (type === 'integer' || type === 'number') return 'number'
  if (type === 'array') return 'list'
  return type === 'boolean' ? 'boolean' : 'string'
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** The known name that somebody most likely meant, if one is near enough. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(name, candidate)
    if (distance < least) [best, least] = [candidate, distance]
  }
  return best
}

/** Levenshtein's: letters to insert, delete or change. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}
