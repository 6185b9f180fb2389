/**
 * What is fuzzed, and how an input for it is made.
 *
 *     seed -> one to five changes (of the JSON tree, of the bytes) -> dress: what an attacker with keys of his own can do
 *
 * `dress` signs or seals what was changed, so that inputs pass the outer check and reach the reader behind it; half of the
 * inputs stay undressed. A target's `read` judges by its own rules too, by throwing something that is no AgentMeshError.
 */
import { utf8Bytes, type ErrorCode } from '@agentmesh/sdk/wire'
import { MAX_SWOLLEN_BYTES, mutateBytes, swell } from './mutate-bytes.ts'
import { isLongerThan, mutateTree, parseTree, printTree, type Node } from './mutate-json.ts'
import { Random } from './random.ts'

export interface Target {
  readonly name: string
  /** What its changes keep: `json` inputs are changed as trees as well. */
  readonly form: 'bytes' | 'json' | 'text'
  /** Every seed is something the reader takes, unless `takesNothing`. */
  readonly seeds: readonly Uint8Array[]
  /** What is read stands before something that opens for nobody: no input may be taken. */
  readonly takesNothing?: true
  /** Invalid ones: a start close to an edge. */
  readonly edges?: readonly Uint8Array[]
  /** What an input may take, in times of what a seed takes, where a bound of the protocol allows more than the usual. */
  readonly maxCost?: number
  /** Words put into `text` inputs. */
  readonly words?: readonly string[]
  /** The codes this reader's documentation names; another one is a finding. */
  readonly refusals: readonly ErrorCode[]
  readonly dress?: (input: Uint8Array, random: Random) => Uint8Array
  readonly read: (input: Uint8Array) => unknown
  /** The reader's counterpart. What it gives is read again, and must give the same value. */
  readonly write?: (value: never) => Uint8Array
  readonly close?: () => Promise<void> | void
}

/** Targets are made when they are wanted: some take keys, folders or a server. */
export type TargetMaker = () => Target | Promise<Target>

export const JSON_REFUSALS = [
  'TOO_LARGE',
  'MALFORMED',
  'JSON_SYNTAX',
  'JSON_DUPLICATE_KEY',
  'JSON_FORBIDDEN_KEY',
  'JSON_DEPTH',
  'JSON_NUMBER',
  'JSON_SURROGATE',
] as const satisfies ErrorCode[]

const decoder = new TextDecoder()

/** For readers that take text: what is no UTF-8 is replaced, as a WebSocket or a file reader before them would refuse it. */
export function textOf(input: Uint8Array): string {
  return decoder.decode(input)
}

/** Makes the inputs of one target, by number. The first ones are the seeds as they are. */
export class InputSource {
  readonly #target: Target
  readonly #seed: number
  readonly #starts: readonly Uint8Array[]
  readonly #trees: readonly (Node | undefined)[]

  constructor(target: Target, seed: number) {
    if (target.seeds.length === 0) throw new Error(`${target.name} has no seeds`)
    this.#target = target
    this.#seed = seed
    this.#starts = [...target.seeds, ...(target.edges ?? [])]
    this.#trees = this.#starts.map((start) => (target.form === 'json' ? treeOf(start) : undefined))
  }

  at(index: number): Uint8Array {
    const { seeds, dress } = this.#target
    const seed = seeds[index]
    if (seed !== undefined) return Uint8Array.from(seed)
    const random = new Random(this.#seed, this.#target.name, index)
    const input = this.#changed(random)
    return dress !== undefined && random.oneIn(2) ? dress(input, random) : input
  }

  #changed(random: Random): Uint8Array {
    if (random.oneIn(500)) return random.bytes(random.below(2048))
    const at = this.#start(random)
    const other = this.#start(random)
    let bytes = this.#starts[at]!
    let tree = this.#trees[at]
    const otherTree = this.#trees[other]
    let changes = 1
    while (changes < 5 && random.oneIn(2)) changes++
    if (tree !== undefined && otherTree !== undefined && !random.oneIn(5)) {
      for (; changes > 0; changes--) {
        const next = mutateTree(tree, random, otherTree)
        if (isLongerThan(next, MAX_SWOLLEN_BYTES)) break
        tree = next
      }
      bytes = utf8Bytes(printTree(tree))
      if (!random.oneIn(8)) return this.#sized(bytes, random)
    }
    for (; changes > 0; changes--) bytes = this.#changeBytes(bytes, random, this.#starts[other]!)
    return this.#sized(bytes, random)
  }

  /** Seeds three times in four, edges else. */
  #start(random: Random): number {
    return random.oneIn(4) ? random.below(this.#starts.length) : random.below(this.#target.seeds.length)
  }

  #changeBytes(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
    const { words } = this.#target
    if (words === undefined || random.oneIn(2)) return mutateBytes(bytes, random, other)
    const text = textOf(bytes)
    const from = random.below(text.length + 1)
    const to = random.oneIn(2) ? from : from + random.below(16)
    return utf8Bytes(text.slice(0, from) + random.pick(words) + text.slice(to))
  }

  #sized(bytes: Uint8Array, random: Random): Uint8Array {
    return random.oneIn(4000) ? swell(bytes, random) : bytes
  }
}

function treeOf(bytes: Uint8Array): Node | undefined {
  try {
    return parseTree(textOf(bytes))
  } catch {
    return undefined
  }
}
