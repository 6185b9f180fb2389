/** The workspaces of this repository, read from their manifests. Paths are relative to the root, with forward slashes. */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'

/** Every workspace below packages/ and apps/: `{ folder, manifest }`. */
export function workspaces() {
  return ['packages', 'apps']
    .filter((group) => existsSync(group))
    .flatMap((group) => readdirSync(group).map((name) => `${group}/${name}`))
    .filter((folder) => existsSync(`${folder}/package.json`))
    .map((folder) => ({ folder, manifest: JSON.parse(readFileSync(`${folder}/package.json`, 'utf8')) }))
}

/**
 * Maps each export of each workspace to its source file, as aliases for enhanced-resolve, so that `@agentmesh/sdk/wire` is
 * followed to packages/sdk/src/wire/index.ts with or without a build. An alias also stands for what is below its name, and
 * a file has nothing below it: what a workspace does not export stays unresolvable. The longest name comes first because
 * the first that fits is taken.
 */
export function sourceAliases() {
  const aliases = workspaces().flatMap(({ folder, manifest }) =>
    Object.entries(manifest.exports ?? {}).map(([entry, target]) => {
      const source = target.default.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts')
      return [manifest.name + entry.slice(1), resolve(folder, source)]
    }),
  )
  return Object.fromEntries(aliases.toSorted(([a], [b]) => b.length - a.length))
}
