/**
 * Checks what a user gets who installs a workspace: packs every publishable one as npm would, lets publint judge its
 * manifest against the packed files, and lets attw resolve each export with its types as an ESM program does. Needs a
 * build.
 *
 * Usage, in the root of the repository: node tools/check-exports.mjs
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { workspaces } from './workspaces.mjs'

const attw = join(
  dirname(fileURLToPath(import.meta.resolve('@arethetypeswrong/cli/package.json'))),
  'dist/index.js',
)
const problems = []
let checked = 0

/** Packs one workspace and returns the tarball's path. */
function pack(folder, destination) {
  const npm = spawnSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', destination], {
    cwd: folder,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  if (npm.status !== 0) throw new Error(`npm pack failed in ${folder}: ${npm.stderr}`)
  const [{ filename, files }] = JSON.parse(npm.stdout)
  return { tarball: join(destination, filename), files: files.map((file) => file.path) }
}

const scratch = mkdtempSync(join(tmpdir(), 'agentmesh-exports-'))
try {
  for (const { folder, manifest } of workspaces()) {
    if (manifest.private === true) continue
    const { tarball, files } = pack(folder, scratch)
    for (const path of files) {
      if (/\.test\.|\/test-support|\/vector-|\.tsbuildinfo$/.test(path))
        problems.push(`packed-leftover: ${manifest.name} ships ${path}`)
    }
    for (const path of ['LICENSE', 'README.md']) {
      if (!files.includes(path)) problems.push(`not-packed: ${manifest.name} lacks ${path}`)
    }

    const bytes = readFileSync(tarball)
    const { messages } = await publint({
      strict: true,
      pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) },
    })
    for (const message of messages) {
      if (message.type === 'suggestion') continue
      const text = formatMessage(message, manifest, { color: false }) ?? message.code
      problems.push(`publint ${message.code}: ${manifest.name}: ${text}`)
    }

    // A package that is only a command has no entry to resolve.
    if (manifest.exports !== undefined) {
      const run = spawnSync(
        process.execPath,
        [attw, tarball, '--profile', 'esm-only', '--no-color', '--no-emoji'],
        {
          encoding: 'utf8',
        },
      )
      if (run.status !== 0) problems.push(`attw: ${manifest.name}:\n${run.stdout}${run.stderr}`)
    }
    checked += 1
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

if (checked === 0) problems.push('nothing-checked: no publishable workspace was found')
for (const problem of problems) console.error(problem)
console.log(`exports: ${checked} packages, ${problems.length} problems`)
process.exitCode = problems.length === 0 ? 0 : 1
