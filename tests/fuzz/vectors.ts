/** Seeds from `test-vectors/`: what each reader takes, and what it refuses by a hair. */
import { readdirSync, readFileSync } from 'node:fs'
import { canonicalBytes, fromBase64, utf8Bytes } from '@agentmesh/sdk/wire'

/** Larger cases test a limit: as seeds they would take most of the time and teach little. */
const MAX_SEED_BYTES = 8 * 1024

const folder = new URL('../../test-vectors/', import.meta.url)

interface WireCase {
  readonly input: { readonly text?: string; readonly base64?: string }
  readonly expect: string
}

export interface Seeds {
  readonly seeds: readonly Uint8Array[]
  readonly edges: readonly Uint8Array[]
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, folder), 'utf8'))
}

/** The cases of the wire vectors with this reader, those in text or those in bytes. */
export function wireSeeds(reader: string, form: 'text' | 'base64' = 'text'): Seeds {
  const cases = readdirSync(new URL('wire/', folder))
    .filter((name) => name.endsWith('.json'))
    .map((name) => readJson(`wire/${name}`) as { reader: string; cases: WireCase[] })
    .filter((file) => file.reader === reader)
    .flatMap((file) => file.cases)
  const inputs = (valid: boolean) =>
    cases
      .filter(({ expect }) => (expect === 'ok') === valid)
      .flatMap(({ input: { text, base64 } }) => {
        if (form === 'text') return text === undefined ? [] : [utf8Bytes(text)]
        return base64 === undefined ? [] : [fromBase64(base64)]
      })
  const isSmall = (input: Uint8Array) => input.length <= MAX_SEED_BYTES
  return { seeds: inputs(true).filter(isSmall), edges: inputs(false).filter(isSmall) }
}

interface IdentityVector {
  readonly kind: string
  readonly expect: string
  readonly input: Readonly<Record<string, unknown>>
}

/** One field of the inputs of the identity vectors of a kind: all of them edges, since each has keys of its own. */
export function identityEdges(kind: string, field: string): readonly Uint8Array[] {
  return readdirSync(new URL('identity/', folder))
    .filter((name) => name.endsWith('.json'))
    .map((name) => readJson(`identity/${name}`) as IdentityVector)
    .filter((vector) => vector.kind === kind)
    .map(({ input }) => input[field])
    .filter((value) => value !== undefined)
    .map((value) => (typeof value === 'string' ? utf8Bytes(value) : canonicalBytes(value)))
}
