/**
 * What a registry in this process does for a request: every statement to the database, every signature it checks, and when
 * its answer was out. Two requests with the same work, in the same order, cannot be told apart by its time.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import sodium from 'libsodium-wrappers-sumo'
import { vi } from 'vitest'
import type { Reply } from './test-support.ts'

export interface Observed {
  readonly reply: Reply
  readonly untilAnswer: readonly string[]
  readonly afterAnswer: readonly string[]
}

export class WorkObserver {
  #work: string[] = []
  readonly #statement = (text: unknown): void => void this.#work.push(`statement: ${text as string}`)
  readonly #answered = (): void => void this.#work.push('answered')

  constructor() {
    subscribe('agentmesh:registry:statement', this.#statement)
    subscribe('http.server.response.finish', this.#answered)
    const check = sodium.crypto_sign_verify_detached.bind(sodium)
    vi.spyOn(sodium, 'crypto_sign_verify_detached').mockImplementation((...input) => {
      const valid = check(...input)
      this.#work.push(`checked a signature: ${valid}`)
      return valid
    })
  }

  /** @param settled waits for what is done when the answer is out */
  async during(
    ask: () => Promise<Reply>,
    settled: () => Promise<unknown> = async () => {},
  ): Promise<Observed> {
    this.#work = []
    const reply = await ask()
    await settled()
    const answer = this.#work.indexOf('answered')
    if (answer < 0) throw new Error('No answer of this process was seen')
    return {
      reply,
      untilAnswer: this.#work.slice(0, answer),
      afterAnswer: this.#work.slice(answer + 1),
    }
  }

  close(): void {
    unsubscribe('agentmesh:registry:statement', this.#statement)
    unsubscribe('http.server.response.finish', this.#answered)
    vi.restoreAllMocks()
  }
}

/** What is never twice the same, by its kind: everything else in two answers can be compared byte for byte. */
const KINDS: readonly (readonly [RegExp, string])[] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '<time>'],
  [/\b[1-9A-HJ-NP-Za-km-z]{26,28}\b/g, '<amid>'],
  [/"verification_id":"[A-Za-z0-9_-]{32}"/g, '"verification_id":"<id>"'],
  [/proof=[A-Za-z0-9_-]{43}/g, 'proof=<mac>'],
]

/** Status, headers and text of an answer, as far as they are not random. @throws when its length is not its text's */
export function told({ status, headers, text }: Reply): {
  status: number
  headers: Record<string, string>
  text: string
} {
  const { date: _, 'content-length': length, ...rest } = Object.fromEntries(headers)
  if (length !== undefined && Number(length) !== Buffer.byteLength(text))
    throw new Error('Not the length said')
  return { status, headers: rest, text: KINDS.reduce((left, [kind, name]) => left.replace(kind, name), text) }
}
