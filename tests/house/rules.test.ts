/**
 * Each rule of the linter and of the import boundaries has been seen to find a planted fault. All faults stand in one
 * miniature, a file each, and every one must be reported for its own file under its own name.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Miniature } from './miniature.ts'

/** What is wrong, the rule that must say so, the file, its text. */
type Fault = readonly [description: string, rule: string, path: string, text: string]

const sdk = (path: string) => `packages/sdk/src/${path}.ts`
const relay = (path: string) => `apps/relay/src/${path}.ts`

const WAIT = 'async function wait(): Promise<void> {\n  await Promise.resolve()\n}\n\n'
const VITEST = "import { expect, it } from 'vitest'\n\n"

const LINT_FAULTS: readonly Fault[] = [
  ['a promise nobody waits for', 'no-floating-promises', sdk('session/l01'), `${WAIT}wait()\n`],
  [
    'a promise as a condition',
    'no-misused-promises',
    sdk('session/l02'),
    `${WAIT}if (wait()) throw new Error('x')\n`,
  ],
  ['throwing what is no error', 'only-throw-error', sdk('session/l03'), "throw 'text'\n"],
  [
    'any',
    'no-explicit-any',
    sdk('session/l04'),
    'export const fault = (value: any): string => String(value)\n',
  ],
  ['unchecked JSON', 'no-unsafe-assignment', relay('l05'), "export const fault: string = JSON.parse('1')\n"],
  [
    'a forgotten case',
    'switch-exhaustiveness-check',
    sdk('session/l06'),
    "export function fault(state: 'a' | 'b'): void {\n  switch (state) {\n    case 'a':\n      throw new Error(state)\n  }\n}\n",
  ],
  [
    'loose equality',
    'eqeqeq',
    sdk('session/l07'),
    'export const fault = (a: unknown, b: unknown) => a == b\n',
  ],
  ['a default export', 'no-default-export', sdk('session/l08'), 'export default 1\n'],
  ['console in a package', 'no-console', sdk('session/l09'), "console.log('x')\n"],
  ['console in a server', 'no-console', relay('l10'), "console.log('x')\n"],
  ['eval', 'no-eval', sdk('session/l11'), "eval('1')\n"],
  ['a camel-case file name', 'filename-case', sdk('session/someFault'), 'export const fault = 1\n'],
  ['a file over 500 lines', 'max-lines', sdk('session/l12'), 'export {}\n'.repeat(501)],
  ['an import cycle', 'no-cycle', sdk('session/l13'), "export * from './l14.ts'\n"],
  ['the other half of a cycle', 'no-cycle', sdk('session/l14'), "export * from './l13.ts'\n"],
  [
    'a non-null assertion',
    'no-non-null-assertion',
    relay('l15'),
    'export const fault = (a?: string) => a!\n',
  ],
  [
    'a focused test',
    'no-focused-tests',
    'tests/l16.test.ts',
    `${VITEST}it.only('holds', () => expect(1).toBe(1))\n`,
  ],
  [
    'a disabled test',
    'no-disabled-tests',
    'tests/l17.test.ts',
    `${VITEST}it.skip('holds', () => expect(1).toBe(1))\n`,
  ],
  [
    'a test that checks nothing',
    'expect-expect',
    'tests/l18.test.ts',
    "import { it } from 'vitest'\n\nit('holds', () => {})\n",
  ],
  [
    'an exception that is not needed',
    'Unused',
    sdk('session/l19'),
    '// oxlint-disable-next-line no-eval\nexport const fault = 1\n',
  ],
]

const LAYERS = [
  'wire',
  'crypto',
  'identity',
  'discovery',
  'transport',
  'session',
  'messages',
  'observability',
  'agent',
]

const IMPORT_FAULTS: readonly Fault[] = [
  ...LAYERS.slice(0, -1).map((layer, index): Fault => {
    const above = LAYERS[index + 1]!
    return [
      `${layer} that imports ${above}`,
      `layer-${layer}-imports-down`,
      sdk(`${layer}/upward`),
      `export * from '../${above}/upward.ts'\n`,
    ]
  }),
  [
    'an upward import of a type only',
    'layer-wire-imports-down',
    sdk('wire/i02'),
    "export type { sign } from '../crypto/signing.ts'\n",
  ],
  [
    'a layer entered past its front door',
    'layer-front-door',
    sdk('session/i06'),
    "export * from '../crypto/x3dh.ts'\n",
  ],
  [
    'a layer that imports the whole sdk',
    'sdk-index-is-the-top',
    sdk('session/i07'),
    "export * from '../index.ts'\n",
  ],
  ['a folder that is no layer', 'known-layer', sdk('helpers/i08'), "export * from '../wire/index.ts'\n"],
  [
    'a package that imports an app',
    'packages-below-apps',
    sdk('session/i09'),
    "export * from '@agentmesh/relay'\n",
  ],
  [
    'libsodium outside its file',
    'libsodium-in-one-file',
    sdk('session/i10'),
    "export * from 'libsodium-wrappers-sumo'\n",
  ],
  [
    'signatures by node:crypto',
    'no-other-crypto',
    sdk('session/i11'),
    "export { verify } from 'node:crypto'\n",
  ],
  ['a disk in the wire layer', 'pure-core', sdk('wire/i12'), "export { readFileSync } from 'node:fs'\n"],
  ['a file that stands alone', 'no-orphans', sdk('session/i13'), 'export const fault = 1\n'],
  ['an import of nothing', 'not-to-unresolvable', sdk('session/i14'), "export * from './gone.ts'\n"],
  ['an undeclared dependency', 'declared-dependencies', sdk('session/i15'), "export * from 'pino'\n"],
  [
    'a shipped file that imports a tool',
    'shipped-stays-shipped',
    sdk('session/i16'),
    "export * from '../../../../tools/workspaces.mjs'\n",
  ],
  ['an import cycle', 'no-circular', sdk('session/i17'), "export * from './i18.ts'\n"],
  ['a server that imports the whole sdk', 'server-doors', relay('i19'), "export * from '@agentmesh/sdk'\n"],
  [
    'a server that reaches the handshake',
    'servers-cannot-decrypt',
    relay('i19'),
    "export * from '@agentmesh/sdk'\n",
  ],
  [
    'a relative path into the sdk',
    'workspace-by-name',
    relay('i20'),
    "export * from '../../../packages/sdk/src/wire/index.ts'\n",
  ],
  [
    'a server that imports the command line',
    'servers-stand-alone',
    relay('i21'),
    "export * from '../../cli/src/index.ts'\n",
  ],
  [
    'an entry the sdk does not export',
    'not-to-unresolvable',
    relay('i22'),
    "export * from '@agentmesh/sdk/session'\n",
  ],
  [
    'a shipped file that imports test support',
    'shipped-stays-shipped',
    sdk('session/i24'),
    "export * from '../wire/test-support.ts'\n",
  ],
  [
    'a test that imports built code',
    'no-built-code',
    'tests/i23.ts',
    "export * from '../packages/sdk/dist/index.js'\n",
  ],
]

let tree: Miniature
beforeAll(() => {
  tree = new Miniature()
})
afterAll(() => tree.remove())

describe('the linter refuses', () => {
  let lines: readonly string[]
  beforeAll(() => {
    const faulty = new Miniature()
    for (const [, , path, text] of LINT_FAULTS) faulty.write(path, text)
    lines = faulty.run('lint', ' --format=unix').split('\n')
    faulty.remove()
  })

  it.each(LINT_FAULTS)('%s', (_description, rule, path) => {
    expect(lines.filter((line) => line.startsWith(path) && line.includes(rule))).not.toEqual([])
  })

  it('nothing but the faults', () => {
    const planted = LINT_FAULTS.map(([, , path]) => path)
    const reported = lines.filter((line) => /^\S+:\d+:\d+: /.test(line))
    expect(reported.filter((line) => !planted.some((path) => line.startsWith(path)))).toEqual([])
  })

  it('a tree without sources', () => {
    expect(tree.shell('oxlint --type-aware nowhere')).toContain('No files found')
  })
})

describe('the boundaries refuse', () => {
  let lines: readonly string[]
  beforeAll(() => {
    const faulty = new Miniature()
    faulty.write('apps/cli/src/index.ts', 'export const cli = 1\n')
    faulty.write(sdk('wire/test-support'), 'export const support = 1\n')
    faulty.write(sdk('agent/upward'), 'export const top = 1\n')
    faulty.write(sdk('session/i18'), "export * from './i17.ts'\n")
    faulty.write('packages/sdk/dist/index.js', 'export const built = 1\n')
    for (const [, , path, text] of IMPORT_FAULTS) faulty.write(path, text)
    lines = faulty.run('boundaries').split('\n')
    faulty.remove()
  })

  it.each(IMPORT_FAULTS)('%s', (_description, rule, path) => {
    expect(lines.filter((line) => line.startsWith(`${rule}: ${path}`))).not.toEqual([])
  })

  it('a server whose allowed door leads to the ratchet', () => {
    const faulty = new Miniature()
    faulty.write(sdk('crypto/ratchet-step'), "export { mix as step } from './primitives.ts'\n")
    faulty.append(sdk('crypto/signing'), "\nexport { step } from './ratchet-step.ts'\n")
    expect(faulty.run('boundaries')).toContain(`servers-cannot-decrypt: ${relay('index')}`)
    faulty.remove()
  })

  it('a tree smaller than the floor', () => {
    expect(tree.shell('node tools/check-boundaries.mjs 1000')).toContain('too-few-modules')
  })

  it('a cruise that leaves a source file out', () => {
    const faulty = new Miniature()
    const config = faulty.read('.dependency-cruiser.cjs')
    faulty.write(
      '.dependency-cruiser.cjs',
      config.replace('doNotFollow:', "exclude: { path: 'x3dh' },\n    doNotFollow:"),
    )
    expect(faulty.run('boundaries')).toContain(`not-cruised: ${sdk('crypto/x3dh')}`)
    faulty.remove()
  })
})
