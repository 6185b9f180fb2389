/**
 * A miniature of this repository in a temporary folder: its real configuration, its real scripts, a handful of sound
 * source files, and node_modules linked to the real ones. A test plants one fault in it and runs the script that should
 * find it, so what is tested is the check as it is run, on code that the test knows.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url))

type ScriptName =
  | 'build'
  | 'format:check'
  | 'lint'
  | 'boundaries'
  | 'unused'
  | 'generated:check'
  | 'exports:check'

interface Manifest {
  readonly scripts: Readonly<Record<ScriptName, string>>
  readonly files: readonly string[]
  readonly devDependencies: Readonly<Record<string, string>>
}

const CONFIGURATION = [
  '.oxlintrc.json',
  '.oxfmtrc.json',
  '.dependency-cruiser.cjs',
  '.gitignore',
  'knip.json',
  'tsconfig.base.json',
  'packages/sdk/tsconfig.json',
  'apps/relay/tsconfig.json',
  'packages/sdk/LICENSE',
  'packages/sdk/README.md',
  'apps/relay/LICENSE',
  'apps/relay/README.md',
]

/** What the scripts need; a dependency that only real code uses would be unused here. */
const TOOLS: ReadonlySet<string> = new Set([
  '@arethetypeswrong/cli',
  '@changesets/cli',
  '@types/node',
  '@typescript/native',
  'dependency-cruiser',
  'knip',
  'oxfmt',
  'oxlint',
  'oxlint-tsgolint',
  'publint',
  'typescript',
  'vitest',
])

/** The tools that checks are made of; the others work on code that is not here. */
const CHECKS = /^(check-.*|summarize-tests|workspaces)\.mjs$/

const SOURCES: Readonly<Record<string, string>> = {
  'packages/sdk/src/wire/errors.ts': `export class MiniatureError extends Error {}\n`,
  'packages/sdk/src/wire/index.ts': `export * from './errors.ts'

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
`,
  'packages/sdk/src/crypto/primitives.ts': `import { MiniatureError } from '../wire/errors.ts'

export function mix(bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) throw new MiniatureError('nothing to mix')
  return bytes.toReversed()
}
`,
  'packages/sdk/src/crypto/signing.ts': `import { mix } from './primitives.ts'

export function sign(bytes: Uint8Array): Uint8Array {
  return mix(bytes)
}
`,
  'packages/sdk/src/crypto/x3dh.ts': `import { mix } from './primitives.ts'

export function agree(bytes: Uint8Array): Uint8Array {
  return mix(mix(bytes))
}
`,
  'packages/sdk/src/crypto/index.ts': `export * from './signing.ts'\nexport * from './x3dh.ts'\n`,
  'packages/sdk/src/identity/index.ts': `import { sign } from '../crypto/signing.ts'
import { utf8 } from '../wire/index.ts'

export function nameOf(text: string): Uint8Array {
  return sign(utf8(text))
}
`,
  'packages/sdk/src/session/index.ts': `import { agree } from '../crypto/index.ts'
import { nameOf } from '../identity/index.ts'

export function knock(text: string): Uint8Array {
  return agree(nameOf(text))
}
`,
  'packages/sdk/src/index.ts': `export * from './crypto/index.ts'
export * from './identity/index.ts'
export * from './session/index.ts'
export * from './wire/index.ts'
`,
  'apps/relay/src/index.ts': `import { nameOf } from '@agentmesh/sdk/identity'
import { utf8 } from '@agentmesh/sdk/wire'

export function greet(text: string): number {
  return nameOf(text).length + utf8(text).length
}
`,
}

const entry = (path: string) => ({ types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` })

const realManifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(REPOSITORY, folder, 'package.json'), 'utf8')) as Manifest

export class Miniature {
  readonly root = mkdtempSync(join(tmpdir(), 'agentmesh-house-'))

  constructor() {
    const real = realManifest('.')
    this.write('package.json', {
      name: 'miniature',
      private: true,
      workspaces: ['packages/*', 'apps/*'],
      type: 'module',
      scripts: real.scripts,
      devDependencies: Object.fromEntries(
        Object.entries(real.devDependencies).filter(([name]) => TOOLS.has(name)),
      ),
    })
    this.write('packages/sdk/package.json', {
      name: '@agentmesh/sdk',
      version: '0.2.0',
      license: 'Apache-2.0',
      files: realManifest('packages/sdk').files,
      type: 'module',
      exports: {
        '.': entry('index'),
        './wire': entry('wire/index'),
        './crypto/signing': entry('crypto/signing'),
        './identity': entry('identity/index'),
      },
    })
    this.write('apps/relay/package.json', {
      name: '@agentmesh/relay',
      version: '0.2.0',
      license: 'Apache-2.0',
      files: realManifest('apps/relay').files,
      type: 'module',
      exports: { '.': entry('index') },
      dependencies: { '@agentmesh/sdk': '^0.2.0' },
    })
    this.write('tsconfig.json', {
      files: [],
      references: [{ path: 'packages/sdk' }, { path: 'apps/relay' }],
    })
    for (const path of CONFIGURATION) this.copy(path)
    for (const name of readdirSync(join(REPOSITORY, 'tools'))) {
      if (CHECKS.test(name)) this.copy(`tools/${name}`)
    }
    for (const [path, text] of Object.entries(SOURCES)) this.write(path, text)
    this.linkModules()
  }

  /** Writes a file, text as it is and anything else as the formatter leaves JSON. */
  write(path: string, content: string | object): void {
    const target = join(this.root, path)
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`)
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8')
  }

  append(path: string, text: string): void {
    this.write(path, this.read(path) + text)
  }

  discard(path: string): void {
    rmSync(join(this.root, path))
  }

  /**
   * Runs a script of the real package.json here, with the floor of the boundary check lowered to this tree's size.
   * Returns `passed`, or all it printed when it failed.
   */
  run(script: ScriptName, more = ''): string {
    return this.shell(realManifest('.').scripts[script].replace(/(check-boundaries\.mjs) \d+/, '$1 8') + more)
  }

  /** As `run`, for any command. */
  shell(command: string): string {
    const path = [join(this.root, 'node_modules/.bin'), process.env['PATH']].join(delimiter)
    const { status, stdout, stderr } = spawnSync(command, {
      cwd: this.root,
      shell: true,
      encoding: 'utf8',
      env: { ...process.env, PATH: path, NO_COLOR: '1', FORCE_COLOR: '0' },
    })
    return status === 0 ? 'passed' : `${command} failed (${status})\n${stdout}${stderr}`
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true })
  }

  private copy(path: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true })
    copyFileSync(join(REPOSITORY, path), join(this.root, path))
  }

  private linkModules(): void {
    const real = join(REPOSITORY, 'node_modules')
    const own = join(this.root, 'node_modules')
    mkdirSync(join(own, '@agentmesh'), { recursive: true })
    for (const name of readdirSync(real)) {
      if (name !== '@agentmesh' && name !== '.package-lock.json')
        symlinkSync(join(real, name), join(own, name))
    }
    symlinkSync(join(this.root, 'packages/sdk'), join(own, '@agentmesh/sdk'))
    symlinkSync(join(this.root, 'apps/relay'), join(own, '@agentmesh/relay'))
  }
}
