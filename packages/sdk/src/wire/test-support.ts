/** What the tests of every layer share: the code a call is refused with, and the files of test-vectors/. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isAgentMeshError } from './errors.ts'

/** The code of the AgentMeshError that `call` throws, or `ok`. */
export function outcome(call: () => unknown): string {
  try {
    call()
    return 'ok'
  } catch (error) {
    if (isAgentMeshError(error)) return error.code
    throw error
  }
}

/** Two-space JSON, with lists of texts on one line where they fit, as the formatter leaves them. */
export function printVector(vector: object, width: number): string {
  // Texts, numbers, then pairs of numbers.
  const items = [String.raw`"[^"\n]*"`, String.raw`\d+`, String.raw`\[\d+, \d+\]`]
  const joined = items.reduce(
    (text, item) => {
      const list = new RegExp(String.raw`\[\n\s+(${item}(?:,\n\s+${item})*)\n\s+\]`, 'g')
      return text.replace(list, (whole, found: string) => {
        const line = `[${found.replaceAll(/,\n\s+/g, ', ')}]`
        return line.length <= width ? line : whole
      })
    },
    JSON.stringify(vector, null, 2),
  )
  return `${joined}\n`
}

export interface VectorFiles {
  /** The names of the files there are, without `.json`. */
  readonly names: readonly string[]
  load(name: string): string
}

/** The vectors of a layer. With UPDATE_VECTORS=1 they are first written as `scenarios` and `print` give them. */
export function vectorFiles<V>(
  layer: string,
  scenarios: ReadonlyMap<string, V>,
  print: (vector: V) => string,
): VectorFiles {
  const folder = fileURLToPath(new URL(`../../../../test-vectors/${layer}/`, import.meta.url))
  if (process.env['UPDATE_VECTORS'] === '1') {
    mkdirSync(folder, { recursive: true })
    for (const [name, vector] of scenarios) writeFileSync(`${folder}${name}.json`, print(vector))
  }
  return {
    names: readdirSync(folder)
      .filter((file) => file.endsWith('.json'))
      .map((file) => file.slice(0, -'.json'.length)),
    load: (name) => readFileSync(`${folder}${name}.json`, 'utf8'),
  }
}
