/** Each check passes on sound code, and has been seen to fail on a planted fault by naming it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Miniature } from './miniature.ts'

let tree: Miniature
beforeEach(() => {
  tree = new Miniature()
})
afterEach(() => tree.remove())

describe('sound code', () => {
  it.each(['build', 'format:check', 'lint', 'boundaries', 'unused', 'exports:check'] as const)(
    'passes %s',
    (script) => {
      expect(tree.run(script)).toBe('passed')
    },
  )
})

it('the compiler refuses each of these, by its code and its place', () => {
  const faults = [
    ['an-unchecked-index', 'TS2322', 'export const first = (list: string[]): string => list[0]\n'],
    ['undefined-in-an-optional-field', 'TS2375', 'export const point: { x?: number } = { x: undefined }\n'],
    ['an-enum', 'TS1294', 'export enum Tier {\n  Anonymous,\n}\n'],
    ['an-unused-local', 'TS6133', 'export function idle(): void {\n  const unused = 1\n}\n'],
    ['an-entry-that-is-not-exported', 'TS2307', "export * from '@agentmesh/sdk/session'\n"],
  ] as const
  for (const [name, , text] of faults) tree.write(`apps/relay/src/${name}.ts`, text)
  const output = tree.run('build')
  for (const [name, code] of faults) {
    expect(output).toMatch(new RegExp(`src/${name}\\.ts\\b[^\\n]*error ${code}`))
  }
})

describe('the formatter refuses', () => {
  it('code that it would write differently', () => {
    tree.write('packages/sdk/src/wire/fault.ts', 'export const fault = "double";\n')
    expect(tree.run('format:check')).toContain('packages/sdk/src/wire/fault.ts')
  })
})

describe('the dead code check refuses', () => {
  it('a file that nothing imports', () => {
    tree.write('packages/sdk/src/session/fault.ts', 'export const fault = 1\n')
    expect(tree.run('unused')).toMatch(/Unused files[^]*session\/fault\.ts/)
  })

  it('an export that nothing uses', () => {
    tree.append('packages/sdk/src/crypto/primitives.ts', '\nexport const fault = 1\n')
    expect(tree.run('unused')).toMatch(/Unused exports[^]*fault/)
  })

  it('a dependency that nothing imports', () => {
    const manifest = JSON.parse(tree.read('apps/relay/package.json')) as { dependencies: object }
    tree.write('apps/relay/package.json', {
      ...manifest,
      dependencies: { ...manifest.dependencies, kysely: '*' },
    })
    expect(tree.run('unused')).toMatch(/Unused dependencies[^]*kysely/)
  })

  it('a dependency that is not listed', () => {
    tree.append('apps/relay/src/index.ts', "\nexport { Kysely } from 'kysely'\n")
    expect(tree.run('unused')).toMatch(/Unlisted dependencies[^]*kysely/)
  })
})

describe('the check of generated files refuses', () => {
  const generator = `import { mkdirSync, writeFileSync } from 'node:fs'

mkdirSync('spec', { recursive: true })
writeFileSync('spec/table.md', 'one\\n')
`

  it('nothing when they come out the same', () => {
    tree.write('tools/generate-table.mjs', generator)
    tree.write('spec/table.md', 'one\n')
    expect(tree.run('generated:check')).toBe('passed')
  })

  it('a file edited by hand', () => {
    tree.write('tools/generate-table.mjs', generator)
    tree.write('spec/table.md', 'two\n')
    expect(tree.run('generated:check')).toContain('out-of-date: spec/table.md')
  })

  it('a file that was not committed', () => {
    tree.write('tools/generate-table.mjs', generator)
    expect(tree.run('generated:check')).toContain('not-committed: spec/table.md')
  })

  it('a generator that fails', () => {
    tree.write('tools/generate-table.mjs', 'process.exitCode = 3\n')
    expect(tree.run('generated:check')).toContain('generator-failed: generate-table.mjs')
  })

  it('a tree without generators', () => {
    expect(tree.run('generated:check')).toContain('no-generator')
  })
})

// Packing takes long: faults that cannot be taken for one another share a run. Each line alone makes the check fail.
describe('the check of packed packages refuses', () => {
  it('an export whose file is missing, and a package without its license', () => {
    const manifest = tree.read('packages/sdk/package.json')
    tree.write(
      'packages/sdk/package.json',
      manifest.replaceAll('/dist/crypto/signing.', '/dist/crypto/gone.'),
    )
    tree.discard('apps/relay/LICENSE')
    const output = tree.run('exports:check')
    expect(output).toMatch(/publint FILE_DOES_NOT_EXIST: @agentmesh\/sdk: .*gone\.js/)
    expect(output).toMatch(/attw: @agentmesh\/sdk/)
    expect(output).toContain('not-packed: @agentmesh/relay lacks LICENSE')
  })

  it('an export without types, and a test in the package', () => {
    const manifest = tree.read('packages/sdk/package.json')
    tree.write('packages/sdk/package.json', manifest.replace('!**/*.test.*', '!**/*.d.ts'))
    tree.write('packages/sdk/src/wire/fault.test.ts', 'export const fault = 1\n')
    const output = tree.run('exports:check')
    expect(output).toMatch(/attw: @agentmesh\/sdk/)
    expect(output).toContain('packed-leftover: @agentmesh/sdk ships dist/wire/fault.test.js')
  })
})

describe('the sum of test reports refuses', () => {
  const report = (...tests: object[]) => ({
    testResults: [{ name: 'some.test.ts', message: '', assertionResults: tests }],
  })
  const passing = { status: 'passed', fullName: 'holds' }
  const sum = (rest = '0') => tree.shell(`node tools/summarize-tests.mjs reports ${rest}`)

  it('nothing when all tests of all reports passed', () => {
    tree.write('reports/a.json', report(passing))
    tree.write('reports/b.json', report(passing, passing))
    expect(sum()).toBe('passed')
  })

  it.each([
    [
      'a failed test',
      report(passing, { status: 'failed', fullName: 'breaks' }),
      'failed: some.test.ts > breaks',
    ],
    [
      'a skipped test',
      report(passing, { status: 'pending', fullName: 'waits' }),
      'pending: some.test.ts > waits',
    ],
    [
      'a file without tests',
      { testResults: [...report(passing).testResults, ...report().testResults] },
      'no test ran',
    ],
  ])('%s', (_fault, content, line) => {
    tree.write('reports/a.json', content)
    const output = sum('1')
    expect(output).toContain(line)
    expect(output.trimEnd().split('\n').at(-1)).toBe('1 passed, 1 failed')
  })

  it('a failed step and an error outside every test', () => {
    tree.write('reports/a.json', report(passing))
    expect(sum('0 lint')).toMatch(/step failed: lint\n1 passed, 1 failed\n$/)
    expect(sum('1')).toMatch(/the test run ended with status 1\n1 passed, 1 failed\n$/)
  })

  it('no report at all', () => {
    tree.write('reports/readme.txt', 'empty\n')
    expect(sum()).toMatch(/no test report was written\n0 passed, 1 failed\n$/)
  })
})
