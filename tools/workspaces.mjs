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
 * followed to packages/sdk/src/wire/index.ts with or without a build. What a workspace does not export gets no alias and
 * stays unresolvable.
 */
export function sourceAliases() {
  const alias = {}
  for (const { folder, manifest } of workspaces()) {
    for (const [entry, target] of Object.entries(manifest.exports ?? {})) {
      const source = target.default.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts')
      // `$` makes the alias exact: `@agentmesh/sdk$` does not stand for `@agentmesh/sdk/anything`.
      alias[`${manifest.name}${entry.slice(1)}$`] = resolve(folder, source)
    }
  }
  return alias
}
