/**
 * Runs one target: every input through its reader, under the rules that hold for all of them.
 *
 *   - a reader returns, or throws an AgentMeshError with a code its documentation names; nothing else
 *   - no input takes more processor time, for its length, than `MAX_COST` times what the target's own seeds take: what
 *     grows with the square of the input is seen, on any machine (one that hangs is ended from outside: watchdog.ts,
 *     tools/fuzz.mjs)
 *   - what is taken is stable: written again and read again, it is the same value
 *   - memory after the run is what it was before, within a bound: the heap, buffers, and libsodium's own memory
 *
 * A finding holds the input's number, from which it is made again. The run goes on, so that one finding does not hide
 * another, and ends at `MAX_FINDINGS`.
 */
import { isDeepStrictEqual } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isAgentMeshError } from '@agentmesh/sdk/wire'
import { InputSource, type Target } from './target.ts'

/** An input that stays for longer, in processor time, hangs. */
export const MAX_INPUT_MILLISECONDS = 2_000
/** Times what a seed takes, byte for byte; a target may name more. */
const MAX_COST = 50
/** Below this a machine's own noise decides. */
const SMALLEST_BOUND_MILLISECONDS = 20
const MEASURED_MILLISECONDS = 20
/** Compiled code and caches still settle after the warm-up; over a million inputs this is 8 bytes an input. */
export const MAX_GROWTH_BYTES = 8 * 1024 * 1024
const MAX_FINDINGS = 10
const SLOWEST = 3
/** Inputs after which what is kept once (schemas, code, tables) has been made. */
const WARM_UP = 2_000

export interface Finding {
  readonly index: number
  readonly rule: 'foreign error' | 'undocumented code' | 'unstable' | 'slow' | 'memory'
  readonly detail: string
  readonly input: Uint8Array
}

export interface SlowInput {
  readonly index: number
  readonly milliseconds: number
  readonly bytes: number
}

export interface Report {
  readonly inputs: number
  readonly accepted: number
  /** How often each code was given. */
  readonly refused: Readonly<Record<string, number>>
  /** Slowest first. */
  readonly slowest: readonly SlowInput[]
  /** Bytes after the run less those after its warm-up; undefined for a run too short to tell. */
  readonly growth: number | undefined
  readonly milliseconds: number
  readonly findings: readonly Finding[]
}

export interface RunOptions {
  readonly seed: number
  readonly inputs: number
  /** The first input; 0 when not given. */
  readonly from?: number
  /** What an input of so many bytes may take; by what the seeds take when not given. */
  readonly bound?: (bytes: number) => number
  /** Called before each input. */
  readonly onInput?: (index: number) => void
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

export function memoryInUse(): number {
  collectGarbage()
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  // What WebAssembly has taken, libsodium's memory, counts as external.
  return heapUsed + external
}

class Judge {
  readonly #target: Target
  accepted = 0
  readonly refused: Record<string, number> = {}

  constructor(target: Target) {
    this.#target = target
  }

  /** What rule the reader broke on this input, if any. */
  async judge(input: Uint8Array): Promise<Omit<Finding, 'index' | 'input'> | undefined> {
    let value: unknown
    try {
      const result = this.#target.read(input)
      // Waiting costs a turn of the loop, so only readers that are asynchronous pay it.
      value = result instanceof Promise ? await (result as Promise<unknown>) : result
    } catch (error) {
      return this.#refusal(error)
    }
    this.accepted++
    return this.#stability(value)
  }

  /** Processor time of reading it again, the least of three: the clock, and one time alone, tell more of the machine. */
  async cpuMilliseconds(input: Uint8Array): Promise<number> {
    const times: number[] = []
    for (let time = 0; time < 3; time++) times.push(await cpuTime(() => this.#readAgain(input)))
    return Math.min(...times)
  }

  async #readAgain(input: Uint8Array): Promise<void> {
    try {
      await this.#target.read(input)
    } catch {
      // Judged already.
    }
  }

  /** What an input may take, by its length, from what the seeds take. */
  async bound(): Promise<(bytes: number) => number> {
    const { seeds, maxCost = MAX_COST } = this.#target
    let rounds = 1
    let spent = 0
    // All rounds as one, since to ask for the time takes longer than many a seed.
    while (spent < MEASURED_MILLISECONDS) {
      rounds *= 2
      spent = await cpuTime(async () => {
        for (let round = 0; round < rounds; round++) for (const seed of seeds) await this.#readAgain(seed)
      })
    }
    const perSeed = spent / (rounds * seeds.length)
    const seedBytes = Math.max(1, seeds.reduce((sum, { length }) => sum + length, 0) / seeds.length)
    return (bytes) => Math.max(SMALLEST_BOUND_MILLISECONDS, maxCost * perSeed * (1 + bytes / seedBytes))
  }

  #refusal(error: unknown): Omit<Finding, 'index' | 'input'> | undefined {
    if (!isAgentMeshError(error)) return { rule: 'foreign error', detail: describe(error) }
    this.refused[error.code] = (this.refused[error.code] ?? 0) + 1
    if (this.#target.refusals.includes(error.code)) return undefined
    return { rule: 'undocumented code', detail: describe(error) }
  }

  async #stability(value: unknown): Promise<Omit<Finding, 'index' | 'input'> | undefined> {
    const { write, read } = this.#target
    if (write === undefined) return undefined
    try {
      const again = await read(write(value as never))
      return isDeepStrictEqual(again, value)
        ? undefined
        : { rule: 'unstable', detail: 'another value came back' }
    } catch (error) {
      return { rule: 'unstable', detail: `written and read again: ${describe(error)}` }
    }
  }
}

/** In milliseconds, of this process. */
async function cpuTime(work: () => Promise<void>): Promise<number> {
  const start = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${typeof error}`
  const code = isAgentMeshError(error) ? `${error.code} ` : ''
  return `${code}${error.stack ?? error.message}`
}

export async function runTarget(target: Target, options: RunOptions): Promise<Report> {
  const { seed, inputs, from = 0, onInput } = options
  const source = new InputSource(target, seed)
  const judge = new Judge(target)
  const findings: Finding[] = []
  let slowest: SlowInput[] = []
  let settled: number | undefined
  // Code that has not run yet is slow, so the seeds are measured after the warm-up; a short run is all warm-up.
  const anything = () => Infinity
  let bound = options.bound ?? anything
  const begin = performance.now()
  for (let index = from; index < from + inputs && findings.length < MAX_FINDINGS; index++) {
    if (index === from + WARM_UP) {
      bound = options.bound ?? (await judge.bound())
      settled = memoryInUse()
    }
    onInput?.(index)
    const input = source.at(index)
    const start = performance.now()
    const broken = await judge.judge(input)
    let milliseconds = performance.now() - start
    const isWarm = index - from >= WARM_UP
    const most = bound(input.length)
    if (milliseconds > most || (isWarm && milliseconds > (slowest.at(-1)?.milliseconds ?? 0))) {
      milliseconds = Math.min(milliseconds, await judge.cpuMilliseconds(input))
    }
    if (broken !== undefined) findings.push({ index, input, ...broken })
    if (milliseconds > most) {
      const detail = `${milliseconds.toFixed(1)} ms for ${input.length} bytes, which may take ${most.toFixed(1)} ms`
      findings.push({ index, input, rule: 'slow', detail })
    }
    if (isWarm && milliseconds > (slowest.at(-1)?.milliseconds ?? 0)) {
      slowest = [...slowest, { index, milliseconds, bytes: input.length }]
        .toSorted((left, right) => right.milliseconds - left.milliseconds)
        .slice(0, SLOWEST)
    }
  }
  const milliseconds = performance.now() - begin
  const growth = settled === undefined ? undefined : memoryInUse() - settled
  if (growth !== undefined && growth > MAX_GROWTH_BYTES) {
    const detail = `${growth} bytes more in use after the run`
    findings.push({ index: from, input: new Uint8Array(0), rule: 'memory', detail })
  }
  const { accepted, refused } = judge
  return { inputs, accepted, refused, slowest, growth, milliseconds, findings }
}
