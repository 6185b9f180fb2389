/** The systemd units of deploy/: what they start exists and takes what it is given, and how closely they are shut in. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { DEPLOY, ROOT } from './compose-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-systemd-'))
afterAll(() => rmSync(folder, { recursive: true }))

const SERVERS = ['relay', 'registry'] as const
const UNITS = ['agentmesh-relay.service', 'agentmesh-registry.service', 'agentmesh@.service']
const read = (name: string) => readFileSync(join(DEPLOY, 'systemd', name), 'utf8')
/** Values of a setting, in order. */
const valuesOf = (unit: string, key: string) =>
  unit.split('\n').flatMap((line) => (line.startsWith(`${key}=`) ? [line.slice(key.length + 1)] : []))

/** The command of a unit in this tree. */
function commandOf(unit: string, variables: Readonly<Record<string, string>>): string[] {
  const [command = ''] = valuesOf(unit, 'ExecStart')
  const words = command
    .replaceAll(/\$\{(\w+)\}/g, (_whole, name: string) => variables[name] ?? 'unset')
    .replaceAll('%i', 'alice')
    .split(' ')
  expect(words[0]).toBe('/usr/bin/node')
  return words.slice(1).map((word) => word.replace(/^\/opt\/agentmesh\//, ROOT))
}

describe.each(SERVERS)('agentmesh-%s.service', (kind) => {
  const unit = read(`agentmesh-${kind}.service`)
  const state = join(folder, kind)
  mkdirSync(state, { recursive: true })
  const variables = { CREDENTIALS_DIRECTORY: state, STATE_DIRECTORY: state }
  const environment = Object.fromEntries(valuesOf(unit, 'Environment').map((pair) => pair.split('=')))
  const check = (config: object) => {
    writeFileSync(join(state, `${kind}.json`), JSON.stringify(config))
    const args = [...commandOf(unit, variables), '--check-config']
    return spawnSync(process.execPath, args, { env: { ...process.env, ...environment }, encoding: 'utf8' })
  }

  test('starts a program that takes its options, file and environment', () => {
    const { status, stdout, stderr } = check({ port: 1234 })
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(new RegExp(`^port +1234 +${state}/${kind}.json$`, 'm'))
    expect(stdout).toMatch(new RegExp(`^data +${state}/${kind}.db +--data$`, 'm'))
    expect(stdout).not.toContain('nothing reads it')
    expect(valuesOf(unit, 'LoadCredential')).toEqual([`${kind}.json:/etc/agentmesh/${kind}.json`])
  })

  test('stays down for a mistake in the configuration, and for nothing else', () => {
    const { status } = check({ prot: 1 })
    expect(valuesOf(unit, 'RestartPreventExitStatus')).toEqual([String(status)])
    expect(valuesOf(unit, 'Restart')).toEqual(['always'])
  })

  test('has time to drain, and files for all sockets', () => {
    const { stdout } = check({})
    const setting = (key: string) => Number(new RegExp(`^${key} +(\\d+) `, 'm').exec(stdout)?.[1])
    expect(Number(valuesOf(unit, 'TimeoutStopSec')[0])).toBeGreaterThan(setting('drain_seconds'))
    if (kind === 'relay')
      expect(Number(valuesOf(unit, 'LimitNOFILE')[0])).toBeGreaterThan(setting('limit.max_sockets'))
  })
})

test('agentmesh@.service starts the daemon of a user, in the one folder that it may write to', () => {
  const unit = read('agentmesh@.service')
  const [bin = '', ...args] = commandOf(unit, {})
  expect(valuesOf(unit, 'User')).toEqual(['%i'])
  expect(valuesOf(unit, 'ReadWritePaths')).toEqual(['/home/%i/.agentmesh'])
  expect(args.slice(0, 2)).toEqual(['--home', valuesOf(unit, 'ReadWritePaths')[0]?.replace('%i', 'alice')])
  const said = spawnSync(process.execPath, [bin, ...args, '--help'], { encoding: 'utf8', timeout: 60_000 })
  expect(said.status).toBe(0)
  for (const option of args.filter((word) => word.startsWith('--'))) expect(said.stdout).toContain(option)
  expect(said.stdout).toContain('Usage: agentmesh up')
})

test.each(UNITS)('%s gives up every right that Node can do without', (name) => {
  const unit = read(name)
  for (const [key, value] of [
    ['NoNewPrivileges', 'yes'],
    ['ProtectSystem', 'strict'],
    ['CapabilityBoundingSet', ''],
    ['PrivateTmp', 'yes'],
    ['UMask', '0077'],
    ['SystemCallErrorNumber', 'EPERM'],
    ['Type', 'exec'],
  ] as const) {
    expect([key, valuesOf(unit, key)]).toEqual([key, [value]])
  }
  expect(valuesOf(unit, 'SystemCallFilter').at(-1)).toBe('~@privileged @resources')
  // It would end every Node program at once.
  expect(valuesOf(unit, 'MemoryDenyWriteExecute')).toEqual([])
})

/** Under CI it runs and fails; elsewhere it is skipped by name. */
const systemdMissing =
  process.env['CI'] !== 'true' && spawnSync('systemd-analyze', ['--version']).status !== 0
describe.skipIf(systemdMissing)('systemd-analyze (needs systemd)', () => {
  const analyze = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
    return { status, said: stdout + stderr }
  }
  /** A copy whose programs are here: verify looks for them. */
  const copy = (name: string, change: (unit: string) => string = (unit) => unit): string => {
    const path = join(folder, name)
    const unit = change(read(name)).replaceAll('/usr/bin/node', process.execPath)
    writeFileSync(path, unit.replaceAll(/^Documentation=.*$/gm, ''))
    return path
  }

  test.each(UNITS)('finds nothing wrong with %s', (name) => {
    expect(analyze('verify', '--man=no', copy(name))).toEqual({ status: 0, said: '' })
  })

  test.each([
    ['a setting that is none', 'ProtectSystem=', 'ProtectSysten=', /Unknown key.*'ProtectSysten'/],
    ['a program that is not there', 'ExecStart=', 'ExecStart=/nowhere', /nowhere/],
    ['a set of calls that is none', '@system-service', '@system-servant', /@system-servant/],
  ])('finds %s', (_fault, from, to, said) => {
    const path = copy('agentmesh-relay.service', (unit) => unit.replace(from, to))
    expect(analyze('verify', '--man=no', path).said).toMatch(said)
  })

  test.each(UNITS)('finds little that %s is exposed to', (name) => {
    const path = copy(name)
    expect(analyze('security', '--offline=true', '--threshold=20', path).status).toBe(0)
    // The limit can be missed.
    writeFileSync(path, read(name).replaceAll(/^(Protect|SystemCall|Capability).*$/gm, ''))
    expect(analyze('security', '--offline=true', '--threshold=20', path).status).not.toBe(0)
  })
})
