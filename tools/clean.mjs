/**
 * Removes what a build leaves, so that the next one starts from sources only.
 *
 * Usage, in the root of the repository: node tools/clean.mjs
 */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { workspaces } from './workspaces.mjs'

const folders = ['.', 'tests', ...workspaces().map(({ folder }) => folder)].filter((path) => existsSync(path))

for (const folder of folders) {
  for (const name of readdirSync(folder)) {
    if (name === 'dist' || name === 'coverage' || name.endsWith('.tsbuildinfo')) {
      rmSync(join(folder, name), { recursive: true })
    }
  }
}
