/** The shape of a vector of `test-vectors/identity/`, and how a list of them is written. */
import { formatTimestamp, toHex } from '../wire/index.ts'
import { NOW, testIdentity } from './test-support.ts'

export type VectorKind =
  | 'amid'
  | 'amid-text'
  | 'multikey'
  | 'key-record'
  | 'bundle'
  | 'registration'
  | 'did-document'
  | 'request'
  | 'connect'
  | 'recovery'
  | 'succession'

export interface IdentityVector {
  readonly description: string
  /** The section of spec/identity.md that says so. */
  readonly section: string
  /** `ok`, or the code of the refusal. */
  readonly expect: string
  readonly kind: VectorKind
  readonly input: Readonly<Record<string, unknown>>
  /** What comes out when nothing is refused. */
  readonly output?: unknown
}

export const alice = testIdentity('alice')
export const mallory = testIdentity('mallory')
export const alicePublicKey = toHex(alice.signing.publicKey)
export const now = formatTimestamp(NOW)
export const HOUR = 3_600_000

export type Entries = [string, IdentityVector][]

export function refused(
  kind: VectorKind,
  section: string,
  rows: readonly (readonly [name: string, code: string, description: string, input: object])[],
): Entries {
  return rows.map(([name, code, description, input]) => [
    `${kind}-${name}`,
    { description, section: `spec/identity.md ${section}`, expect: code, kind, input: { ...input } },
  ])
}

export function accepted(
  kind: VectorKind,
  section: string,
  name: string,
  description: string,
  input: object,
  output: unknown,
): Entries {
  return [
    [
      name === '' ? kind : `${kind}-${name}`,
      {
        description,
        section: `spec/identity.md ${section}`,
        expect: 'ok',
        kind,
        input: { ...input },
        output,
      },
    ],
  ]
}
