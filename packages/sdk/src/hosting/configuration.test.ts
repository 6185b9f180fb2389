/** Configuration: four sources with one meaning, and mistakes named by their place and never by their value. */
import { Type } from '../wire/index.ts'
import { describe, expect, test } from 'vitest'
import { optionsHelp, readCommandLine, shown, configurationText } from './command-line.ts'
import { readConfiguration, type Sources } from './configuration.ts'
import { defaultsOf, RateLimit } from './setting-kinds.ts'
import type { ServerDefinition } from './settings.ts'

const schema = Type.Object({
  port: Type.Integer({ default: 7, minimum: 0, maximum: 65_535, description: 'port' }),
  names: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z.]+$' }), { option: 'name', minItems: 1 })),
  level: Type.Enum(['low', 'high'], { default: 'low', description: 'how much' }),
  token: Type.Optional(Type.String({ minLength: 8, secret: true, variable: 'TOKEN' })),
  limit: Type.Object({
    maxSockets: Type.Integer({ default: 10, minimum: 1 }),
    sends: RateLimit(2, 4, 'SENDs'),
  }),
})
const definition: ServerDefinition<typeof schema> = { name: 'relay', prefix: 'AM', schema }

function read(sources: Partial<Sources> & { file?: string } = {}) {
  const { file, options = {}, ...rest } = sources
  return readConfiguration(definition, {
    environment: {},
    readFile: () => new TextEncoder().encode(file),
    options: file === undefined ? options : { config: 'relay.json', ...options },
    ...rest,
  })
}

function mistakes(sources: Parameters<typeof read>[0]): string[] {
  try {
    read(sources)
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' })
    return (error as Error).message.split('\n')
  }
  return []
}

test('an option counts more than a variable, that more than the file, that more than the default', () => {
  const file = '{"port":1,"limit":{"max_sockets":1,"sends":{"burst":1}}}'
  const environment = { AM_PORT: '2', AM_LIMIT_MAX_SOCKETS: '2' }
  const { values, held } = read({ file, environment, options: { config: 'relay.json', port: '3' } })
  expect(values).toEqual({
    port: 3,
    level: 'low',
    limit: { maxSockets: 2, sends: { perSecond: 2, burst: 1 } },
  })
  const sources = Object.fromEntries(held.map(({ setting, source }) => [setting.key, source]))
  expect(sources).toEqual({
    port: '--port',
    names: 'default',
    level: 'default',
    token: 'default',
    'limit.max_sockets': 'AM_LIMIT_MAX_SOCKETS',
    'limit.sends.per_second': 'default',
    'limit.sends.burst': 'relay.json',
  })
})

test('a program may have another default, which still is one', () => {
  const { values, held } = read({ defaults: { level: 'high' } })
  expect(values.level).toBe('high')
  expect(held.find(({ setting }) => setting.key === 'level')?.source).toBe('default')
  expect(read({ defaults: { level: 'high' }, environment: { AM_LEVEL: 'low' } }).values.level).toBe('low')
})

test('lists come by comma from a variable and by repetition from options', () => {
  expect(read({ environment: { AM_NAMES: 'a.b, c' } }).values.names).toEqual(['a.b', 'c'])
  expect(read({ options: { name: ['x', 'y'] } }).values.names).toEqual(['x', 'y'])
})

test('a variable that is set and empty says nothing', () => {
  expect(read({ environment: { AM_PORT: '', TOKEN: '' } }).values).toMatchObject({ port: 7 })
})

describe('mistakes', () => {
  test('an unknown name in the file is refused with its place and the nearest known one', () => {
    expect(mistakes({ file: '{"limit":{"max_sokets":3},"colour":1,"limits":{}}' })).toEqual([
      'relay.json: limit.max_sokets is no setting; did you mean limit.max_sockets?',
      'relay.json: colour is no setting',
      'relay.json: limits is no setting',
    ])
  })

  test('a value of the wrong kind or out of range is named by its source, and never shown', () => {
    const all = mistakes({
      file: '{"level":"loud","limit":{"sends":3}}',
      environment: { AM_PORT: '70000', TOKEN: 'hunter2' },
      options: { 'limit-max-sockets': '1e3' },
    })
    expect(all).toEqual([
      'relay.json: limit.sends must be object',
      'AM_PORT must be <= 65535',
      'relay.json: level must be equal to one of the allowed values: low, high',
      'TOKEN must NOT have fewer than 8 characters',
      '--limit-max-sockets must be integer',
    ])
    expect(all.join()).not.toMatch(/hunter2|70000|loud/)
  })

  test.each([
    ['a key twice', '{"port":1,"port":2}', /Duplicate key/],
    ['a prototype', '{"__proto__":{"port":1}}', /__proto__/],
    ['no object', '[]', /Not a JSON object/],
    ['no JSON', '{port:1}', /Not JSON/],
    ['a number as text', '{"port":"1"}', /port must be integer/],
    ['nothing', '{"port":null}', /port must be integer/],
    ['inherited names', '{"constructor":1,"toString":{}}', /constructor is no setting/],
  ])('a file with %s is refused', (_name, file, message) => {
    expect(mistakes({ file }).join('\n')).toMatch(message)
  })

  test('a file that cannot be read is a mistake and not the default', () => {
    const readFile = () => {
      throw new Error('ENOENT: no such file')
    }
    expect(mistakes({ readFile, environment: { AM_CONFIG: '/none' } })).toEqual([
      '/none: ENOENT: no such file',
    ])
  })

  test('options: an unknown one, a value that is missing, a word too many', () => {
    const said = (...args: string[]) => {
      try {
        readCommandLine(definition, args)
      } catch (error) {
        return (error as Error).message
      }
      return ''
    }
    expect(said('--prot', '3')).toBe('--prot is no option; did you mean --port?')
    expect(said('--port')).toMatch(/argument missing/)
    expect(said('now')).toMatch(/Unexpected argument 'now'/)
    const refused = said('--token', 'secret-in-ps')
    expect(refused).toMatch(/^--token is no option, since everybody .* set TOKEN, or token in a file$/)
    expect(refused).not.toContain('secret-in-ps')
  })
})

test('what holds is shown with its source, secrets masked, and variables that nothing reads', () => {
  const configuration = read({ environment: { TOKEN: 'hunter2hunter2', AM_PROT: '3', OTHER: '1' } })
  expect(shown(configuration)).toContainEqual({ key: 'token', value: '****', source: 'TOKEN' })
  expect(shown(configuration)).toContainEqual({ key: 'names', value: null, source: 'default' })
  const text = configurationText(configuration)
  expect(text).not.toContain('hunter2')
  expect(text).toContain('AM_PROT is set, and nothing reads it')
  expect(text).not.toContain('OTHER')
})

test('every setting with an option is in the help, with its variable and default', () => {
  const help = optionsHelp(definition)
  expect(help).toMatch(
    /--limit-sends-per-second <n>.*SENDs: a second \(default: 2; env: AM_LIMIT_SENDS_PER_SECOND\)/,
  )
  expect(help).toMatch(/--name <text>.*may be given again/)
  expect(help).not.toContain('--token')
})

test('defaults are those of the schema', () => {
  expect(defaultsOf(schema.properties.limit)).toEqual({ maxSockets: 10, sends: { perSecond: 2, burst: 4 } })
})
