/** Relay and registry: the command and the program take the same options, and say what is wrong with an address. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { COMMAND, Place, Process, ROOT } from './cli-harness.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-servers-'))
const running: Process[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((started) => started.stop()))
})
afterAll(() => rmSync(folder, { recursive: true }))

type Kind = 'relay' | 'registry'

function server(
  how: 'command' | 'program',
  kind: Kind,
  args: string[],
  env: Record<string, string> = {},
): Process {
  const start = how === 'command' ? [COMMAND, kind, '--json'] : [join(ROOT, `apps/${kind}/dist/main.js`)]
  const started = new Process([...start, ...args], { DATABASE_URL: '', ...env })
  running.push(started)
  return started
}

const url = async (process: Process): Promise<string> =>
  String((await process.line((line) => 'url' in line))['url'])

test.each([
  ['relay', 'command'],
  ['relay', 'program'],
  ['registry', 'command'],
  ['registry', 'program'],
] as const)('the %s as a %s takes address and file from its variables', async (kind, how) => {
  const name = `AGENTMESH_${kind.toUpperCase()}`
  const env = {
    [`${name}_HOST`]: 'localhost',
    [`${name}_PORT`]: '0',
    [`${name}_DATA`]: join(folder, `${how}-${kind}.db`),
  }
  const address = new URL(await url(server(how, kind, [], env)))
  expect(address.hostname).toBe('localhost')
  expect(Number(address.port)).toBeGreaterThan(0)
  expect((await fetch(new URL('/readyz', address.href.replace(/^ws/, 'http')))).status).toBe(200)
})

test.each(['command', 'program'] as const)(
  'the registry as a %s counts by the address its proxy names, and by no stranger’s word',
  async (how) => {
    const limits = '--limit-requests-per-ip-burst 3 --limit-requests-per-ip-per-second 0.001'
    const common = ['--port', '0', '--log-level', 'error', ...limits.split(' ')]
    const ask = async (base: string, from: string): Promise<number> => {
      const headers = { 'x-forwarded-for': from }
      return (await fetch(new URL('/v1/registry/taxonomy', base), { headers })).status
    }
    /** More requests than an address may make at once, all from here, each for another client. */
    const statuses = async (base: string): Promise<Set<number>> => {
      const all = new Set<number>()
      for (let n = 0; n < 5; n++) all.add(await ask(base, `10.0.0.${n}`))
      return all
    }
    const data = (name: string) => ['--data', join(folder, `${how}-${name}.db`)]
    const trusting = server(how, 'registry', [...common, ...data('trusting'), '--trusted-proxy', '127.0.0.1'])
    expect(await statuses(await url(trusting))).toEqual(new Set([200]))
    const plain = server(how, 'registry', [...common, ...data('plain')])
    expect(await statuses(await url(plain))).toEqual(new Set([200, 429]))
  },
)

test.each(['command', 'program'] as const)('the configuration of a %s is checked without a start', (how) => {
  const check = (kind: Kind, args: string[], env: Record<string, string> = {}) => {
    const begin = how === 'command' ? [COMMAND, kind] : [join(ROOT, `apps/${kind}/dist/main.js`)]
    const { status, stdout, stderr } = spawnSync(process.execPath, [...begin, ...args, '--check-config'], {
      encoding: 'utf8',
      env: { ...process.env, DATABASE_URL: '', ...env },
    })
    return { status, stdout, stderr }
  }
  const file = join(folder, `${how}.json`)
  writeFileSync(file, '{"port":1,"limit":{"max_sockets":7}}')
  const good = check('relay', ['--config', file, '--port', '2'], { AGENTMESH_RELAY_LIMIT_SENDS_BURST: '9' })
  expect([good.status, good.stderr]).toEqual([0, ''])
  expect(good.stdout).toMatch(/^port +2 +--port$/m)
  expect(good.stdout).toMatch(new RegExp(`^limit.max_sockets +7 +${file}$`, 'm'))
  expect(good.stdout).toMatch(/^limit.sends.burst +9 +AGENTMESH_RELAY_LIMIT_SENDS_BURST$/m)

  const password = 'correct-horse'
  const masked = check('registry', [], {
    DATABASE_URL: `postgres://agentmesh:${password}@db.invalid/registry`,
  })
  expect(masked.status).toBe(0)
  expect(masked.stdout).toMatch(/^database_url +\*\*\*\* +DATABASE_URL$/m)
  expect(masked.stdout).not.toContain(password)

  writeFileSync(file, '{"limits":{}}')
  const proxies = ['--trusted-proxy', '10.0.0.0/33', '--public-url', 'ftp://registry.example']
  for (const bad of [check('relay', ['--config', file]), check('registry', proxies)]) {
    expect([bad.status, bad.stdout]).toEqual([2, ''])
  }
  expect(check('registry', ['--trusted-proxy', '10.0.0.0/33']).stderr).toMatch(
    /trusted_proxies: 10.0.0.0\/33/,
  )
})

test('a registry that knows itself by another name is told to the owner as that', async () => {
  const place = new Place()
  await place.open()
  try {
    const data = join(folder, 'named.db')
    const publicUrl = ['--public-url', 'https://registry.example']
    const named = server('command', 'registry', ['--port', '0', '--data', data, ...publicUrl])
    const { port } = await named.line((line) => 'port' in line)
    place.registry = `http://127.0.0.1:${String(port)}`
    const agent = await place.agent('alice')
    const daemon = agent.start('up', '--foreground', '--json')
    await daemon.line((line) => line['event'] === 'ready')
    const status = async () =>
      (await agent.value<{ registry: { last_error?: string } }>('status')).registry.last_error
    let error: string | undefined
    while (error === undefined) error = await status()
    expect(error).toMatch(/^WRONG_AUTHORITY: /)
    await daemon.stop()
  } finally {
    await place.close()
  }
})
