/** The fuzzer itself: it finds what is planted for each of its rules, and makes every input again. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { AgentMeshError, fromHex, parseJsonObject, toHex, utf8Bytes } from '@agentmesh/sdk/wire'
import { mutateTree, parseTree, printTree } from './mutate-json.ts'
import { Random } from './random.ts'
import { MAX_GROWTH_BYTES, runTarget } from './run.ts'
import { InputSource, JSON_REFUSALS, textOf, type Target } from './target.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const SEED = 7
const object: Target = {
  name: 'planted',
  form: 'json',
  seeds: [utf8Bytes('{"a":[1,2,{"b":"text"}],"c":null}')],
  refusals: JSON_REFUSALS,
  read: (input) => parseJsonObject(input, 4096),
}

async function rulesBroken(target: Target, inputs = 3_000): Promise<string[]> {
  const { findings } = await runTarget(target, { seed: SEED, inputs })
  return [...new Set(findings.map(({ rule }) => rule))]
}

describe('a run', () => {
  it('finds nothing where nothing is planted', async () => {
    expect(await rulesBroken(object)).toEqual([])
  })

  it('finds an error that is not ours', async () => {
    const read = (input: Uint8Array): unknown => JSON.parse(textOf(input))
    expect(await rulesBroken({ ...object, read })).toEqual(['foreign error'])
  })

  it('finds an error in a promise', async () => {
    const read = async (input: Uint8Array): Promise<unknown> => JSON.parse(textOf(input))
    expect(await rulesBroken({ ...object, read })).toEqual(['foreign error'])
  })

  it('finds a code that the reader does not document', async () => {
    const refusals = JSON_REFUSALS.filter((code) => code !== 'JSON_DUPLICATE_KEY')
    expect(await rulesBroken({ ...object, refusals })).toEqual(['undocumented code'])
  })

  it('finds a value that comes back as another', async () => {
    const lossy = (value: { a?: unknown }) => utf8Bytes(JSON.stringify({ a: value.a }))
    expect(await rulesBroken({ ...object, write: lossy })).toEqual(['unstable'])
  })

  it('finds a value that the reader refuses once it is written', async () => {
    const write = () => utf8Bytes('[]')
    expect(await rulesBroken({ ...object, write })).toEqual(['unstable'])
  })

  it('finds memory that stays', async () => {
    const kept: Uint8Array[] = []
    const read = (input: Uint8Array) => kept.push(new Uint8Array(Math.ceil(MAX_GROWTH_BYTES / 500)), input)
    expect(await rulesBroken({ ...object, read })).toEqual(['memory'])
    expect(kept.length).toBeGreaterThan(0)
  })

  it('finds an input that takes longer than it may', async () => {
    const { findings } = await runTarget(object, { seed: SEED, inputs: 3, bound: () => 0 })
    expect(findings.map(({ rule, index }) => [rule, index])).toEqual(
      [0, 1, 2].map((index) => ['slow', index]),
    )
  })

  it('finds a reader whose work grows with the square of its input, and none whose work grows with its length', async () => {
    const form = { ...object, form: 'text', seeds: [utf8Bytes('x'.repeat(200))], refusals: [] } as const
    const walk = (input: Uint8Array, times: number): number => {
      let sum = 0
      for (let round = 0; round < times; round++)
        for (let at = 0; at < input.length; at++) sum = (sum + input[at]!) | 0
      return sum
    }
    expect(await rulesBroken({ ...form, read: (input) => walk(input, 10) }, 12_000)).toEqual([])
    const square = (input: Uint8Array) => walk(input, input.length / 200)
    expect(await rulesBroken({ ...form, read: square }, 12_000)).toEqual(['slow'])
  })

  it('is ended from outside, with the number of the input, when a reader does not come back', () => {
    const script = `
      import { register } from 'node:module'
      register('./tools/source-hooks.mjs', import.meta.url)
      const { watch } = await import('./tests/fuzz/watchdog.ts')
      const dog = await watch('planted', 500)
      dog.onInput(41)
      for (;;);
    `
    const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: root,
      encoding: 'utf8',
    })
    expect(signal).toBe('SIGKILL')
    expect(stderr).toContain('planted does not come back from input 41')
  })

  it('reports the input that broke the rule, so that it can be made again by its number', async () => {
    const read = (input: Uint8Array) => {
      if (input.length % 97 === 0) throw new TypeError('planted')
    }
    const { findings } = await runTarget({ ...object, read }, { seed: SEED, inputs: 3_000 })
    const [first] = findings
    expect(first?.detail).toContain('planted')
    expect(new InputSource(object, SEED).at(first!.index)).toEqual(first?.input)
    const again = await runTarget({ ...object, read }, { seed: SEED, inputs: 1, from: first!.index })
    expect(again.findings.map(({ index }) => index)).toEqual([first?.index])
  })
})

describe('the inputs', () => {
  const all = (seed: number) =>
    Array.from({ length: 500 }, (_, index) => toHex(new InputSource(object, seed).at(index)))

  it('begin with the seeds as they are', () => {
    expect(fromHex(all(SEED)[0]!)).toEqual(object.seeds[0])
  })

  it('follow from seed and number alone, and differ with either', () => {
    expect(all(SEED)).toEqual(all(SEED))
    const others = new Set(all(SEED + 1))
    expect(all(SEED).filter((input) => others.has(input)).length).toBeLessThan(250)
    expect(new Set(all(SEED)).size).toBeGreaterThan(300)
  })

  it('meet every refusal of the JSON reader', async () => {
    const { refused, accepted } = await runTarget(object, { seed: SEED, inputs: 10_000 })
    // A lone surrogate cannot stand in UTF-8; escaped, it can.
    expect(Object.keys(refused).toSorted()).toEqual([...JSON_REFUSALS].toSorted())
    expect(accepted).toBeGreaterThan(1_000)
  })

  it('are dressed one time in two', () => {
    let dressed = 0
    const source = new InputSource({ ...object, dress: (input) => (dressed++, input) }, SEED)
    for (let index = 1; index <= 1_000; index++) source.at(index)
    expect(dressed).toBeGreaterThan(400)
    expect(dressed).toBeLessThan(600)
  })

  it('of JSON stay within their bound when lists are repeated in lists', () => {
    const list: Target = { ...object, name: 'lists', seeds: [utf8Bytes(`[${'[[[1,2]]],'.repeat(200)}1]`)] }
    const source = new InputSource(list, SEED)
    for (let index = 0; index < 20_000; index++) expect(source.at(index).length).toBeLessThan(1024 * 1024)
  })

  it('of JSON can say a key twice', () => {
    const tree = parseTree('{"key":1}')
    const texts = Array.from({ length: 1_000 }, (_, index) =>
      printTree(mutateTree(tree, new Random(SEED, 'keys', index), tree)),
    )
    const refused = texts.filter((text) => {
      try {
        parseJsonObject(text, 1_000_000)
        return false
      } catch (error) {
        return error instanceof AgentMeshError && error.code === 'JSON_DUPLICATE_KEY'
      }
    })
    expect(refused.length).toBeGreaterThan(5)
  })
})

describe('npm run fuzz', () => {
  const fuzz = (...args: string[]) =>
    spawnSync(process.execPath, ['tools/fuzz.mjs', ...args], { cwd: root, encoding: 'utf8' })

  it('shows its seed and a line for each target, and ends well without findings', () => {
    const { status, stdout } = fuzz('--target', 'timestamp,packet-s', '--inputs', '3000', '--seed', '5')
    expect(stdout).toMatch(/^seed 5, 3000 inputs a target, 2 targets\n/)
    expect(stdout).toMatch(/\ntimestamp +\d+ /)
    expect(stdout).toMatch(/\npacket-session +\d+ /)
    expect(stdout).toContain('no findings; seed 5')
    expect(status).toBe(0)
  })

  it('takes a whole name for one target, and the beginning of names for many', () => {
    const lines = (target: string) => fuzz('--list', '--target', target).stdout.trim().split('\n')
    expect(lines('knock')).toEqual(['knock'])
    expect(lines('knock-,row-p')).toEqual(['knock-inside', 'row-packets'])
  })

  it('fails for a target that does not exist', () => {
    expect(fuzz('--target', 'nothing').status).not.toBe(0)
  })
})
