/** What must hold of the files of this repository themselves, where no tool has a rule for it. */
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ERROR_CODES } from '@agentmesh/sdk/wire'
import { REPOSITORY } from './miniature.ts'

const LEFT_OUT = new Set(['node_modules', 'dist', '.git', 'coverage'])

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (LEFT_OUT.has(entry.name) || entry.name.endsWith('.tsbuildinfo')) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesBelow(path) : [path]
  })
}

const files = filesBelow(REPOSITORY).map((path) => ({
  path: relative(REPOSITORY, path).replaceAll('\\', '/'),
  text: statSync(path).size < 4_000_000 ? readFileSync(path, 'utf8') : '',
}))
const named = (pattern: RegExp) => files.filter(({ path }) => pattern.test(path))
const code = named(/\.(ts|tsx|mjs|cjs|js)$/)
const shipped = named(/^(packages|apps)\/[^/]+\/(src|bin)\//).filter(({ path }) => !/\.test\./.test(path))

/** `path:line` of every line that matches. */
function linesWith(list: typeof files, pattern: RegExp): string[] {
  return list.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${path}:${index + 1}`] : [])),
  )
}

const self = 'tests/house/tree.test.ts'
const others = files.filter(({ path }) => path !== self)

describe('the files', () => {
  it('were found', () => {
    expect(shipped.length).toBeGreaterThan(20)
    expect(shipped.map(({ path }) => path)).toContain('packages/sdk/src/wire/errors.ts')
  })

  it('hold at most 500 lines of code each', () => {
    const long = code.filter(({ text }) => text.split('\n').length > 501)
    expect(long.map(({ path }) => path)).toEqual([])
  })

  it('name no path of a machine', () => {
    expect(linesWith(others, /(?<![\w.~}/-])\/(work|home|root|Users)\/\w/)).toEqual([])
  })

  it('name no package registry', () => {
    expect(linesWith(others, /registry\.(npmjs|yarnpkg)|npmmirror|artifactory/)).toEqual([])
  })

  it('leave nothing to do in shipped code', () => {
    expect(linesWith(shipped, /\b(TODO|FIXME|XXX|HACK)\b/)).toEqual([])
  })
})

describe('tests', () => {
  it('wait for events, never for time', () => {
    const sleeps = /setTimeout\((resolve|done|r|ok)\b|setTimeout\b.*from 'node:timers\/promises'/
    expect(
      linesWith(
        others.filter(({ path }) => path.endsWith('.test.ts')),
        sleeps,
      ),
    ).toEqual([])
  })

  it('replace modules only in a process of their own, which vitest.config.ts gives', () => {
    const config = readFileSync(join(REPOSITORY, 'vitest.config.ts'), 'utf8')
    const replacing = named(/\.test\.ts$/).filter(
      ({ path, text }) => path !== self && /\bvi\.(do)?[mM]ock\(/.test(text),
    )
    expect(replacing.length).toBeGreaterThan(0)
    expect(replacing.map(({ path }) => path).filter((path) => !config.includes(`'${path}'`))).toEqual([])
  })
})

describe('package-lock.json', () => {
  interface Locked {
    readonly resolved?: string
    readonly link?: boolean
    readonly integrity?: string
    readonly dependencies?: object
    readonly devDependencies?: object
  }
  const { packages } = JSON.parse(readFileSync(join(REPOSITORY, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, Locked>
  }
  const installed = Object.entries(packages).filter(([path]) => path.includes('node_modules/'))

  it('tells where a package comes from for workspaces only', () => {
    const told = installed.filter(([, { resolved, link }]) => resolved !== undefined && link !== true)
    expect(told.map(([path]) => path)).toEqual([])
  })

  it('fixes the content of every other package', () => {
    expect(installed.length).toBeGreaterThan(100)
    const open = installed.filter(
      ([, { integrity, link }]) => link !== true && !integrity?.startsWith('sha512-'),
    )
    expect(open.map(([path]) => path)).toEqual([])
  })

  it('agrees with every manifest', () => {
    const wanted = named(/^((packages|apps)\/[^/]+\/)?package\.json$/).map(({ path, text }) => {
      const { dependencies, devDependencies } = JSON.parse(text) as Locked
      return [path.replace(/\/?package\.json$/, ''), { dependencies, devDependencies }] as const
    })
    expect(wanted.length).toBeGreaterThanOrEqual(5)
    for (const [folder, { dependencies, devDependencies }] of wanted) {
      const locked = packages[folder]
      expect([folder, locked?.dependencies, locked?.devDependencies]).toEqual([
        folder,
        dependencies,
        devDependencies,
      ])
    }
  })
})

describe('error codes', () => {
  const source = readFileSync(join(REPOSITORY, 'packages/sdk/src/wire/errors.ts'), 'utf8')
  const codes = Object.keys(ERROR_CODES)

  it('are each written once', () => {
    const written = [...source.matchAll(/^ {2}([A-Z][A-Z0-9_]*): \{/gm)].map(([, name]) => name)
    expect(written).toEqual(codes)
    expect(new Set(written).size).toBe(written.length)
  })

  it('are all listed in spec/errors.md', () => {
    const listed = readFileSync(join(REPOSITORY, 'spec/errors.md'), 'utf8')
    expect(codes.filter((name) => !listed.includes(`\`${name}\``))).toEqual([])
  })

  it('are all used', () => {
    const users = shipped.filter(({ path }) => path !== 'packages/sdk/src/wire/errors.ts')
    expect(codes.filter((name) => !users.some(({ text }) => text.includes(`'${name}'`)))).toEqual([])
  })
})

describe('packages', () => {
  const manifests = named(/^(packages|apps)\/[^/]+\/package\.json$/).map(({ path, text }) => ({
    path,
    manifest: JSON.parse(text) as { name: string; version: string; license: string; engines: object },
  }))

  it('carry one version, one license and one Node range', () => {
    const kinds = manifests.map(({ manifest: { version, license, engines } }) =>
      JSON.stringify({ version, license, engines }),
    )
    expect(manifests.length).toBeGreaterThanOrEqual(4)
    expect(new Set(kinds).size).toBe(1)
  })

  it('carry the text of the license', () => {
    const [license] = named(/^LICENSE$/)
    const copies = named(/^(packages|apps)\/[^/]+\/LICENSE$/)
    expect(copies.length).toBe(manifests.length)
    expect(new Set(copies.map(({ text }) => text))).toEqual(new Set([license?.text]))
  })
})
