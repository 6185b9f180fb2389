/** The Dockerfile and its .dockerignore, as far as deploy/ uses the formats, and what must hold of them. */
import { readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { REGISTRY_DEFINITION } from '@agentmesh/registry'
import { RELAY_DEFINITION } from '@agentmesh/relay'
import { settingsOf } from '@agentmesh/sdk/hosting'
import { ROOT } from './compose-file.ts'

export interface Stage {
  readonly base: string
  readonly name: string | undefined
  readonly steps: readonly (readonly [instruction: string, rest: string])[]
}

export function readStages(text: string): readonly Stage[] {
  const stages: { base: string; name: string | undefined; steps: [string, string][] }[] = []
  const lines = text
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
  for (const line of lines.filter((each) => each.trim() !== '')) {
    const [, instruction = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? []
    if (instruction === 'FROM') {
      const [base = '', , name] = rest.split(/\s+/)
      stages.push({ base, name, steps: [] })
    } else stages.at(-1)?.steps.push([instruction, rest])
  }
  return stages
}

/** What a COPY takes from where to where. */
export function copyOf(rest: string): { from: string | undefined; sources: string[]; to: string } {
  const words = rest.split(/\s+/)
  const from = words[0]?.startsWith('--from=') === true ? words.shift()?.slice('--from='.length) : undefined
  const to = words.pop() ?? ''
  return { from, sources: words, to }
}

/** ENV of the last stage. */
export function imageEnvironment(text: string): Readonly<Record<string, string>> {
  const pairs = readStages(text)
    .at(-1)
    ?.steps.filter(([name]) => name === 'ENV')
    .flatMap(([, rest]) => rest.split(/\s+/))
  return Object.fromEntries((pairs ?? []).map((pair) => pair.split('=') as [string, string]))
}

/** Those of the paths that the engine gets to see: the last pattern that matches a path, or a folder above it, decides. */
export function inContext(paths: readonly string[], ignore: string): readonly string[] {
  const rules = ignore
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const kept = line.startsWith('!')
      const pattern = (kept ? line.slice(1) : line)
        .replaceAll(/[.+^$()|{}[\]]/g, String.raw`\$&`)
        .replaceAll('**/', '(?:.+/)?')
        .replaceAll(/(?<![)\]])\*/g, '[^/]*')
      return { kept, form: new RegExp(`^${pattern}(?:/.*)?$`) }
    })
  return paths.filter((path) => rules.findLast(({ form }) => form.test(path))?.kept ?? true)
}

/** @param paths of the context */
export function dockerfileProblems(text: string, paths: readonly string[]): string[] {
  const stages = readStages(text)
  const last = stages.at(-1)
  if (last === undefined) return ['there is no stage']
  const problems: string[] = []
  const has = (source: string) => {
    const path = normalize(source).replace(/\/$/, '')
    return paths.some((each) => each === path || each.startsWith(`${path}/`))
  }
  for (const { base, steps } of stages) {
    if (!/^node:(20|22|24)-[a-z-]+$/.test(base))
      problems.push(`${base} is no Node version that the tests run on`)
    for (const { from, sources } of steps
      .filter(([name]) => name === 'COPY')
      .map(([, rest]) => copyOf(rest))) {
      if (from !== undefined) {
        if (!stages.some(({ name }) => name === from)) problems.push(`there is no stage ${from}`)
      } else for (const source of sources) if (!has(source)) problems.push(`${source} is not in the context`)
    }
  }
  return [...problems, ...manifestProblems(stages), ...lastStageProblems(last)]
}

/** What is installed follows from the manifests that were copied before. */
function manifestProblems(stages: readonly Stage[]): string[] {
  const [{ steps } = { steps: [] }] = stages
  const install = steps.findIndex(([, rest]) => rest.startsWith('npm install'))
  const copied = steps.slice(0, install).map(([, rest]) => copyOf(rest))
  const folders = copied.flatMap(({ sources }) =>
    sources.filter((path) => path.endsWith('/package.json')).map(dirname),
  )
  return workspacesOf('agentmesh')
    .filter((folder) => !folders.includes(folder))
    .map((folder) => `${folder}/package.json is not there when npm installs`)
}

/** Folders of a workspace and of all that it needs. */
function workspacesOf(name: string, found = new Set<string>()): string[] {
  const folders = ['apps/cli', 'apps/registry', 'apps/relay', 'packages/sdk']
  for (const folder of folders) {
    const manifest = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) as {
      name: string
      dependencies: Record<string, string>
    }
    if (manifest.name !== name || found.has(folder)) continue
    found.add(folder)
    for (const dependency of Object.keys(manifest.dependencies)) workspacesOf(dependency, found)
  }
  return [...found]
}

function lastStageProblems({ steps }: Stage): string[] {
  const of = (name: string) => steps.filter(([each]) => each === name).map(([, rest]) => rest)
  const problems: string[] = []
  if (!/^[1-9]\d+(:[1-9]\d+)?$/.test(of('USER').at(-1) ?? ''))
    problems.push('runs as root, or as somebody by name')
  const settings = [RELAY_DEFINITION, REGISTRY_DEFINITION].flatMap((definition) => settingsOf(definition))
  const known = new Set(['NODE_ENV', 'AGENTMESH_HOME', ...settings.map(({ variable }) => variable)])
  for (const pair of of('ENV').flatMap((rest) => rest.split(/\s+/)))
    if (!known.has(pair.split('=')[0] ?? '')) problems.push(`nothing reads ${pair}`)
  const ports = settings.filter(({ key }) => key === 'port').map(({ fallback }) => String(fallback))
  if (of('EXPOSE').join(' ').split(' ').toSorted().join() !== ports.toSorted().join())
    problems.push(`EXPOSE is not ${ports.join(' ')}`)
  const health = of('HEALTHCHECK').join()
  for (const port of ports)
    if (!health.includes(`http://127.0.0.1:${port}/healthz`)) problems.push(`no health check asks at ${port}`)
  const copied = of('COPY').map((rest) => copyOf(rest))
  if (
    !copied.some(
      ({ sources, to }) =>
        sources.includes('deploy/healthcheck.mjs') && health.includes(`${to}healthcheck.mjs`),
    )
  )
    problems.push('its health check is not there')
  return problems
}
