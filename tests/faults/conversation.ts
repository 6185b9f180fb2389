/** A pair of daemons for the faults: alice asks, bob's listener counts. What is asked, handed and answered can be compared. */
import { isAgentMeshError, newMessageId, type MessageId } from '@agentmesh/sdk'
import { expect } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, type Listening, type Member, type ProcessMesh } from '../support/process-mesh.ts'

const talk = { sessionType: 'conversation' } as const

export class Pair {
  readonly alice: Member
  readonly bob: Member
  readonly #mesh: ProcessMesh
  readonly #listeners: Listening[] = []
  /** Requests whose send() resolved, by their number. */
  readonly #taken = new Map<number, MessageId>()
  readonly #forgotten = new Set<number>()
  #next = 0

  constructor(mesh: ProcessMesh, alice: Member, bob: Member) {
    this.#mesh = mesh
    this.alice = alice
    this.bob = bob
  }

  /** A listener for bob's daemon as it runs. */
  listen(): Listening {
    const listening = this.#mesh.listen(this.bob, ({ payload }) => ({ results: payload.parameters['n'] }))
    this.#listeners.push(listening)
    return listening
  }

  /** Asks bob the next number. @throws what send() throws; then the number was not taken */
  async ask(padding = ''): Promise<MessageId> {
    const id = newMessageId((length) => crypto.getRandomValues(new Uint8Array(length)))
    return this.askAgain(id, this.#next++, padding)
  }

  /** Asks under an id of an earlier try. */
  async askAgain(id: MessageId, n: number, padding = ''): Promise<MessageId> {
    const request = { intent: FLIGHTS, parameters: { n, padding } }
    await this.alice.client.send(this.bob.amid, request, { ...talk, id })
    this.#taken.set(n, id)
    return id
  }

  /** Alice's state was put back: her daemon cannot be asked about what it sent since. Those were answered before. */
  forget(): void {
    for (const n of this.#taken.keys()) this.#forgotten.add(n)
  }

  /** Numbers in the order they were handed over. */
  get handed(): number[] {
    return this.#listeners.flatMap(({ handed }) =>
      handed.map(({ payload }) => Number(payload.parameters['n'])),
    )
  }

  /** What Alice can be asked about, by number. */
  get open(): [number, MessageId][] {
    return [...this.#taken].filter(([n]) => !this.#forgotten.has(n))
  }

  /** The numbers whose send() resolved. */
  get taken(): number[] {
    return [...this.#taken.keys()].toSorted((left, right) => left - right)
  }
}

/** Both online, a listener at bob that answers with the number, and one request answered. */
export async function startPair(
  mesh: ProcessMesh,
  alice = mesh.member('alice'),
  bob = mesh.member('bob'),
): Promise<Pair> {
  await Promise.all([alice, bob].map((member) => member.start()))
  await Promise.all([alice, bob].map((member) => member.online()))
  const pair = new Pair(mesh, alice, bob)
  pair.listen()
  await pair.ask()
  await expectSettled(pair)
  return pair
}

/** Every request that was taken has its one answer; it and nothing else was handed over, once, in order. */
export async function expectSettled(pair: Pair): Promise<void> {
  for (const [n, id] of pair.open) {
    expect(await answerOf(pair.alice.client, id)).toMatchObject({ payload: { results: n } })
  }
  expect(pair.handed).toEqual(pair.taken)
}

/** The code a call fails with; undefined when it does not. */
export async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  try {
    await work
    return undefined
  } catch (error) {
    if (isAgentMeshError(error)) return error.code
    throw error
  }
}
