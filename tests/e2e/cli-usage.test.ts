/** The command line where no daemon is needed: arguments, homes, help, and what is said about mistakes. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { runCommand } from '../../apps/cli/src/run.ts'
import { COMMAND, errorCode, ROOT, run, start, type Ended } from './cli-harness.ts'

const AMID = '5TeC66QiBsJaxeMtz9oEwMFQWBD'
const ID = '6f9619ff-8b86-4011-b42d-00cf4fc964ff'
let folder: string
let home: string
const env = () => ({ AGENTMESH_HOME: home })

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-usage-'))
  home = join(folder, 'home')
  const { code, stderr } = await run(['init'], { AGENTMESH_HOME: home })
  if (code !== 0) throw new Error(stderr)
})
afterAll(() => rmSync(folder, { recursive: true }))

const exitCode = () => Number(process.exitCode ?? 0)

/** Runs a command that begins nothing in this process: of hundreds, only some need one of their own. */
async function say(...args: readonly string[]): Promise<Ended> {
  const written = { stdout: '', stderr: '' }
  const catchers = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += String(text)
      return true
    }),
  )
  vi.stubEnv('AGENTMESH_HOME', home)
  const before = process.exitCode
  process.exitCode = undefined
  try {
    await runCommand(args)
    return { code: exitCode(), ...written }
  } finally {
    process.exitCode = before
    vi.unstubAllEnvs()
    for (const catcher of catchers) catcher.mockRestore()
  }
}

test.each([
  ['no such command', ['fly']],
  ['an AMID that is none', ['block', '../../etc/passwd']],
  ['an option that is wrong', ['init', '--registry', 'here']],
  ['no daemon', ['status']],
  ['help', ['send', '--help']],
])('a process ends as the command in it does: %s', async (_name, args) => {
  expect(await run([...args, '--json'], env())).toEqual(await say(...args, '--json'))
})

describe('mistakes in the command line end with 2 and a stable code', () => {
  test.each<[string, string[], string]>([
    ['no such command', ['fly'], 'USAGE'],
    ['no such option', ['status', '--loud'], 'USAGE'],
    ['a missing argument', ['search'], 'USAGE'],
    ['one argument too many', ['status', 'now'], 'USAGE'],
    ['send without intent', ['send', AMID], 'USAGE'],
    ['send to no AMID', ['send', 'bob', '--intent', 'travel'], 'INVALID_AMID'],
    [
      'send to an AMID with a look-alike',
      ['send', AMID.replace('5', 'O'), '--intent', 'travel'],
      'INVALID_AMID',
    ],
    ['an unknown category', ['send', AMID, '--intent', 'gossip'], 'MALFORMED'],
    ['an intent with a path trick', ['send', AMID, '--intent', 'travel/../finance'], 'MALFORMED'],
    ['an action that is no name', ['send', AMID, '--intent', 'travel', '--action', 'A B'], 'MALFORMED'],
    ['parameters that are no JSON', ['send', AMID, '--intent', 'travel', '--params', '{'], 'JSON_SYNTAX'],
    ['parameters that are no object', ['send', AMID, '--intent', 'travel', '--params', '[1]'], 'MALFORMED'],
    ['a key twice', ['send', AMID, '--intent', 'travel', '--params', '{"a":1,"a":2}'], 'JSON_DUPLICATE_KEY'],
    ['__proto__', ['send', AMID, '--intent', 'travel', '--params', '{"__proto__":1}'], 'JSON_FORBIDDEN_KEY'],
    [
      'a number JSON cannot carry',
      ['send', AMID, '--intent', 'travel', '--params', '{"a":9007199254740993}'],
      'JSON_NUMBER',
    ],
    ['a budget without currency', ['send', AMID, '--intent', 'travel', '--budget', '500'], 'USAGE'],
    ['a session type that is none', ['send', AMID, '--intent', 'travel', '--type', 'chat'], 'MALFORMED'],
    ['a schema that is none', ['send', AMID, '--intent', 'travel', '--schema', '../x'], 'MALFORMED'],
    ['an id that is no UUID', ['send', AMID, '--intent', 'travel', '--id', '1'], 'INVALID_ID'],
    ['a negative wait', ['send', AMID, '--intent', 'travel', '--wait', '-1'], 'USAGE'],
    ['a wait that is no number', ['send', AMID, '--intent', 'travel', '--wait', 'soon'], 'USAGE'],
    ['a path for a session', ['session', 'show', '../../etc/passwd'], 'INVALID_ID'],
    ['a path for an export', ['session', 'export', '../../etc/passwd'], 'INVALID_ID'],
    ['an upper-case id', ['session', 'kill', ID.toUpperCase()], 'INVALID_ID'],
    ['a path for an AMID', ['block', '../../etc/passwd'], 'INVALID_AMID'],
    ['allow without AMID', ['allow', ''], 'INVALID_AMID'],
    ['forget without being sure', ['forget', AMID], 'USAGE'],
    ['a path for whom to forget', ['forget', '../../etc/passwd', '--yes'], 'INVALID_AMID'],
    ['a presence that is none', ['presence', 'asleep'], 'USAGE'],
    ['negotiate without a need', ['negotiate', AMID, '--intent', 'travel'], 'USAGE'],
    ['a need that names nothing', ['negotiate', AMID, '--intent', 'travel', '--need', ' , '], 'USAGE'],
    ['a need that is no name', ['negotiate', AMID, '--intent', 'travel', '--need', 'A B'], 'MALFORMED'],
    ['a level of logging that is none', ['relay', '--log-level', 'loud'], 'USAGE'],
    ['a tier that is none', ['search', 'travel', '--tier-min', '3'], 'USAGE'],
    ['a limit of nothing', ['search', 'travel', '--limit', '0'], 'USAGE'],
    ['a capability that is none', ['search', 'x'], 'MALFORMED'],
    ['a policy field that is none', ['policy', 'set', 'blocklst', '[]'], 'USAGE'],
    ['a field of a field that is none', ['policy', 'set', 'rate_limit.knocks', '1'], 'USAGE'],
    ['a prototype for a field', ['policy', 'set', '__proto__.x', '1'], 'USAGE'],
    ['a policy test without sender', ['policy', 'test', 'travel'], 'USAGE'],
    ['a policy test of no AMID', ['policy', 'test', 'travel', '--from', 'x'], 'INVALID_AMID'],
    ['a port out of range', ['relay', '--port', '65536'], 'USAGE'],
    ['a secret as an option', ['relay', '--database-url', 'postgres://a:b@c/d'], 'USAGE'],
    ['a shell nobody knows', ['completion', 'csh'], 'USAGE'],
    ['a prompt without a terminal', ['init', '--passphrase-prompt'], 'USAGE'],
    ['a registry that is no URL', ['init', '--registry', 'here'], 'USAGE'],
    ['a relay over HTTP', ['init', '--relay', 'http://x'], 'USAGE'],
    ['a capability outside the taxonomy', ['init', '--capability', 'magic'], 'USAGE'],
  ])('%s', async (_name, args, code) => {
    const ended = await say(...args, '--json')
    expect([errorCode(ended), ended.code, ended.stdout]).toEqual([code, 2, ''])
  })

  test('parameters on stdin are read as strictly', async () => {
    const ended = await run(
      ['send', AMID, '--intent', 'travel', '--params', '-', '--json'],
      env(),
      '{"a":1,"a":2}',
    )
    expect(errorCode(ended)).toBe('JSON_DUPLICATE_KEY')
  })

  test('no command at all prints the help to stderr', async () => {
    const { code, stdout, stderr } = await run([], env())
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain('Usage: agentmesh')
  })
})

test.each([
  [['status']],
  [['send', AMID, '--intent', 'travel']],
  [['search', 'travel']],
  [['listen']],
  [['sessions']],
  [['session', 'show', ID]],
  [['why', AMID]],
  [['pause']],
  [['resume']],
  [['shutdown']],
  [['emergency-stop']],
])('without a daemon, %j ends with 6', async (args) => {
  const ended = await say(...args, '--json')
  expect([ended.code, errorCode(ended)]).toEqual([6, 'DAEMON_NOT_RUNNING'])
})

test('down is done when no daemon runs', async () => {
  const { code, stdout } = await run(['down', '--json'], env())
  expect([code, JSON.parse(stdout)]).toEqual([0, { stopped: false }])
})

describe('init', () => {
  test('makes private files, and says the recovery words once', async () => {
    const fresh = join(folder, 'fresh')
    const made = await run([
      'init',
      '--home',
      fresh,
      '--name',
      'Bob',
      '--capability',
      'travel/flights',
      '--json',
    ])
    const value = JSON.parse(made.stdout) as { amid: string; recovery_words: string }
    expect(value.recovery_words.split(' ')).toHaveLength(24)
    expect(JSON.parse(readFileSync(join(fresh, 'config.json'), 'utf8'))).toMatchObject({
      display_name: 'Bob',
      relays: ['ws://127.0.0.1:7800/v1/connect'],
      capabilities: [{ category: 'travel', subcategory: 'flights' }],
    })
    for (const name of ['config.json', 'policy.json', 'keys/owner.key', 'keys/signing.key']) {
      expect(statSync(join(fresh, name)).mode & 0o777).toBe(0o600)
      expect(readFileSync(join(fresh, name), 'utf8')).not.toContain(
        value.recovery_words.split(' ', 3).join(' '),
      )
    }
    expect(statSync(fresh).mode & 0o777).toBe(0o700)
  })

  test('never changes a home that has an agent', async () => {
    const before = readFileSync(join(home, 'keys/identity.json'), 'utf8')
    const ended = await run(['init', '--name', 'Other', '--json'], env())
    expect([ended.code, errorCode(ended)]).toEqual([7, 'HOME_EXISTS'])
    expect(readFileSync(join(home, 'keys/identity.json'), 'utf8')).toBe(before)
  })

  test('refuses a home that is a link', async () => {
    const link = join(folder, 'link')
    symlinkSync(home, link)
    const ended = await run(['init', '--home', link, '--json'])
    expect([ended.code, errorCode(ended)]).toEqual([7, 'HOME_UNSAFE'])
  })

  test('seals the keys under a passphrase, without which they do not open', async () => {
    const sealed = join(folder, 'sealed')
    const made = await run(['init', '--home', sealed, '--json'], { AGENTMESH_PASSPHRASE: 'correct horse' })
    expect(JSON.parse(made.stdout)).toMatchObject({ keys: 'passphrase' })
    expect(readFileSync(join(sealed, 'keys/owner.key'), 'utf8')).not.toContain('"protection":"file"')
    for (const [passphrase, code] of [
      ['', 'PASSPHRASE_REQUIRED'],
      ['wrong', 'PASSPHRASE_WRONG'],
    ] as const) {
      const ended = await run(['up', '--home', sealed, '--json'], { AGENTMESH_PASSPHRASE: passphrase })
      expect([ended.code, errorCode(ended)]).toEqual([7, code])
    }
  })
})

describe('policy without a daemon', () => {
  test('set changes the file, and a bad value changes nothing', async () => {
    expect((await run(['policy', 'set', 'accepted_intents', 'travel, research'], env())).code).toBe(0)
    expect((await run(['policy', 'set', 'rate_limit.knocks_per_minute', '7'], env())).code).toBe(0)
    const ended = await run(['policy', 'set', 'min_reputation', '7', '--json'], env())
    expect([ended.code, errorCode(ended)]).toEqual([7, 'POLICY_INVALID'])
    const { stdout } = await run(['policy', 'show', '--json'], env())
    expect(JSON.parse(stdout)).toMatchObject({
      accepted_intents: ['travel', 'research'],
      rate_limit: { knocks_per_minute: 7, messages_per_minute: 100 },
      min_reputation: 0,
    })
  })

  test('a dry run says what would happen and why', async () => {
    const allowed = await run(['policy', 'test', 'travel/flights', '--from', AMID, '--json'], env())
    expect([allowed.code, JSON.parse(allowed.stdout)]).toMatchObject([0, { accepted: true }])
    const refused = await run(['policy', 'test', 'finance', '--from', AMID, '--json'], env())
    expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([
      4,
      { accepted: false, reason: 'intent_not_accepted' },
    ])
  })

  test('block and allow move an agent between the lists', async () => {
    await run(['block', AMID], env())
    const refused = await run(['policy', 'test', 'travel', '--from', AMID, '--json'], env())
    expect(JSON.parse(refused.stdout)).toMatchObject({ accepted: false, reason: 'blocked' })
    await run(['allow', AMID], env())
    const { stdout } = await run(['policy', 'show', '--json'], env())
    expect(JSON.parse(stdout)).toMatchObject({ blocklist: [], allowlist: [AMID] })
  })

  test('is tried as an agent of a tier and a reputation', async () => {
    const tried = (...as: string[]) =>
      run(['policy', 'test', 'travel', '--from', AMID, ...as, '--json'], env())
    await run(['policy', 'set', 'accept_tiers', '1,1.5'], env())
    await run(['policy', 'set', 'min_reputation', '0.55'], env())
    const outcomes = await Promise.all([
      tried(),
      tried('--as', 'verified'),
      tried('--as', 'organization', '--reputation', '0.5'),
      tried('--as', 'king'),
    ])
    expect(outcomes.map(({ code }) => code)).toEqual([4, 0, 4, 2])
    const reasons = outcomes
      .slice(0, 3)
      .map(({ stdout }) => (JSON.parse(stdout) as { reason?: string }).reason)
    expect(reasons).toEqual(['insufficient_trust', undefined, 'low_reputation'])
  })

  test('edit keeps the old policy on a mistake, names the line, and keeps the draft', async () => {
    const editor = (code: string) => ({ ...env(), EDITOR: `${process.execPath} ${script(code)}` })
    const script = (code: string) => {
      const file = join(folder, 'editor.cjs')
      writeFileSync(file, `const fs = require('fs'); const file = process.argv[2]; ${code}`)
      return file
    }
    const before = readFileSync(join(home, 'policy.json'), 'utf8')
    const bad = `fs.writeFileSync(file, '{\\n  "strict_mode": "yes"\\n}')`
    const ended = await run(['policy', 'edit', '--json'], editor(bad))
    expect([ended.code, errorCode(ended)]).toEqual([7, 'POLICY_INVALID'])
    expect(ended.stderr).toContain('line 2, strict_mode')
    expect(readFileSync(join(home, 'policy.json'), 'utf8')).toBe(before)
    const good = `fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"yes"', 'true'))`
    const edited = await run(['policy', 'edit', '--json'], editor(good))
    expect([edited.code, JSON.parse(edited.stdout)]).toMatchObject([0, { strict_mode: true }])
    expect((await run(['policy', 'set', 'strict_mode', 'false'], env())).code).toBe(0)
  })
})

test('doctor says what is wrong and what to do about it', async () => {
  const broken = join(folder, 'broken')
  await run(['init', '--home', broken, '--registry', 'http://127.0.0.1:9', '--relay', 'ws://127.0.0.1:9'])
  chmodSync(join(broken, 'config.json'), 0o644)
  writeFileSync(join(broken, 'policy.json'), '{\n"strict_mode": 1\n}')
  const { code, stdout } = await run(['doctor', '--home', broken, '--json'])
  const { ok, checks } = JSON.parse(stdout) as {
    ok: boolean
    checks: { name: string; state: string; advice?: string }[]
  }
  expect([code, ok]).toEqual([1, false])
  const failed = checks.filter(({ state }) => state === 'fail')
  expect(failed.map(({ name }) => name)).toEqual(['home', 'policy', 'config'])
  expect(failed.every(({ advice }) => (advice ?? '').length > 0)).toBe(true)

  chmodSync(join(broken, 'config.json'), 0o600)
  const again = JSON.parse((await run(['doctor', '--home', broken, '--json'])).stdout) as typeof checks & {
    checks: typeof checks
  }
  expect(again.checks.filter(({ state }) => state === 'fail').map(({ name }) => name)).toEqual([
    'policy',
    'registry',
    'relay',
  ])
})

describe('for people and for scripts', () => {
  test('help loads nothing of the SDK', () => {
    const resolver =
      'export async function resolve(name, context, next) { const found = await next(name, context); process._rawDebug(found.url); return found }'
    const hook = `import { register } from 'node:module'; register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(resolver)}`)})`
    const { stderr, status } = spawnSync(
      process.execPath,
      ['--import', `data:text/javascript,${encodeURIComponent(hook)}`, COMMAND, '--help'],
      { encoding: 'utf8' },
    )
    expect(status).toBe(0)
    expect(stderr).toContain('/commander/')
    expect(stderr).not.toMatch(/packages\/sdk|@agentmesh|libsodium|fastify|\/ws\//)
  })

  test('every command has help, with examples before the usage', async () => {
    const { stdout } = await say('--help')
    const commands = [...stdout.matchAll(/^ {2}([a-z][a-z-]+)(?: \[options\])?(?: <[a-z]+>)? {2,}/gm)].map(
      ([, name]) => name!,
    )
    expect(commands).toEqual(
      expect.arrayContaining(['init', 'up', 'send', 'policy', 'emergency-stop', 'demo']),
    )
    for (const name of commands.filter((command) => command !== 'help')) {
      const help = await say(name, '--help')
      expect(help.code).toBe(0)
      expect(help.stdout.indexOf('Examples:')).toBe(0)
      expect(help.stdout.indexOf('Usage:')).toBeGreaterThan(0)
    }
  })

  test.each([
    [['help'], /^Commands:|emergency-stop/m],
    [['help', 'send'], /--intent/],
    [['help', 'relay'], /--trusted-proxy .*AGENTMESH_RELAY_TRUSTED_PROXIES/],
    [['help', 'registry'], /--public-url .*AGENTMESH_REGISTRY_PUBLIC_URL/],
    [['help', 'registry', 'init'], /--offline-root/],
  ])('%j says what --help says', async (words, expected) => {
    const { code, stdout } = await say(...words)
    expect(stdout).toMatch(expected)
    expect([code, stdout]).toEqual([0, (await say(...words.slice(1), '--help')).stdout])
  })

  test('help on what is no command says so', async () => {
    const ended = await say('help', 'registry', 'sing', '--json')
    expect([errorCode(ended), ended.code, ended.stdout]).toEqual(['USAGE', 2, ''])
  })

  test('colour is used when forced, and never under NO_COLOR', async () => {
    const forced = await run(['doctor'], { ...env(), FORCE_COLOR: '1', NO_COLOR: '' })
    expect(forced.stdout).toContain('\u001b[')
    const plain = await run(['doctor'], { ...env(), FORCE_COLOR: '1', NO_COLOR: '1' })
    expect(plain.stdout).not.toContain('\u001b[')
    const piped = await run(['doctor'], env())
    expect(piped.stdout).not.toContain('\u001b[')
  })

  test('an error for people names the code and what to do', async () => {
    const { stderr } = await run(['status'], env())
    expect(stderr).toBe(
      'error DAEMON_NOT_RUNNING: No daemon runs for this home\nStart it with `agentmesh up`.\n',
    )
  })

  test('the documented exit codes are those of the help', async () => {
    const { stdout } = await run(['--help'])
    const listed = stdout.slice(stdout.indexOf('Exit codes:')).split('\n').slice(1)
    const documented = readFileSync(join(ROOT, 'docs/cli.md'), 'utf8').replaceAll(/ +\|/g, ' |')
    for (const line of listed.filter((text) => text.trim() !== '')) {
      const [, code, meaning] = /^ +(\d+) {2}(.*)$/.exec(line)!
      expect(documented).toContain(`| ${code} | ${meaning} |`)
    }
    expect(listed.length).toBeGreaterThan(10)
  })

  test('bash completes commands, subcommands and options', async () => {
    const { stdout } = await run(['completion', 'bash'])
    const complete = (words: string) =>
      execFileSync(
        'bash',
        [
          '-c',
          `${stdout}\nCOMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _agentmesh; echo "\${COMPREPLY[@]}"`,
        ],
        { encoding: 'utf8' },
      ).trim()
    expect(complete('agentmesh emer')).toBe('emergency-stop')
    expect(complete('agentmesh --json policy s')).toBe('show set')
    expect(complete('agentmesh send --wai')).toBe('--wait')
    expect(complete('agentmesh relay --limit-max-so')).toBe('--limit-max-sockets')
    expect(complete('agentmesh registry --public')).toBe('--public-url')
    expect(complete('agentmesh registry init --public')).toBe('')
  })

  test.each(['zsh', 'fish'])('%s gets every command', async (shell) => {
    const { code, stdout } = await run(['completion', shell])
    expect(code).toBe(0)
    for (const name of ['init', 'emergency-stop', 'verify', 'foreground']) expect(stdout).toContain(name)
  })
})

describe('servers', () => {
  test.each(['relay', 'registry'])(
    '%s says where it is, is healthy, and ends in order on SIGTERM and SIGINT',
    async (kind) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) {
        const server = start([kind, '--port', '0', '--data', join(folder, `${kind}.db`), '--json'])
        const { url, port } = (await server.line((line) => 'url' in line)) as unknown as {
          url: string
          port: number
        }
        expect(url).toContain(`:${port}`)
        expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200)
        expect(await server.stop(signal)).toMatchObject({ code: 0, stderr: '' })
      }
    },
  )

  test.each(['relay', 'registry'])('%s takes host, port and file from the environment', async (kind) => {
    const variable = (name: string) => `AGENTMESH_${kind.toUpperCase()}_${name}`
    const file = join(folder, `${kind}-env.db`)
    const server = start([kind, '--json'], { [variable('PORT')]: '0', [variable('DATA')]: file })
    await server.line((line) => 'url' in line)
    await server.stop()
    expect(statSync(file).size).toBeGreaterThan(0)
  })

  test.each(['relay', 'registry'])('%s ends with a stable code when its port is taken', async (kind) => {
    const first = start(['relay', '--port', '0', '--data', ':memory:', '--json'])
    const { port } = (await first.line((line) => 'port' in line)) as unknown as { port: number }
    const ended = await run([kind, '--port', String(port), '--data', ':memory:', '--json'])
    expect([ended.code, errorCode(ended)]).toEqual([1, 'STORE_FAILED'])
    expect(ended.stderr).toContain('EADDRINUSE')
    await first.stop()
  })
})
