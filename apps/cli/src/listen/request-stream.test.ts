import { AgentMeshError, type ListenerEvent } from '@agentmesh/sdk'
import { expect, test } from 'vitest'
import { requestStream, type RequestEvent } from './request-stream.ts'

type Connection = readonly ListenerEvent[] | AgentMeshError

const READY: ListenerEvent = { type: 'ready' }
const GONE = new AgentMeshError('DAEMON_NOT_RUNNING')

/** A daemon that comes and goes as the list says; an error in it is what connecting fails with. */
function daemon(connections: readonly Connection[]) {
  const left = [...connections]
  return {
    async *requests(): AsyncGenerator<ListenerEvent, void, void> {
      const next = left.shift()
      if (next === undefined) throw new AgentMeshError('INTERNAL', 'Asked once too often')
      if (next instanceof AgentMeshError) throw next
      yield* next
    },
  }
}

async function run(connections: readonly Connection[], stop = new AbortController()) {
  const seen: RequestEvent['type'][] = []
  const pauses: number[] = []
  const pause = async (milliseconds: number): Promise<void> => void pauses.push(milliseconds)
  let code = ''
  try {
    for await (const { type } of requestStream(daemon(connections), stop.signal, pause)) {
      seen.push(type)
      if (type === 'emergency_stop') break
    }
  } catch (error) {
    code = (error as AgentMeshError).code
  }
  return { seen, pauses, code }
}

test('a home without a daemon is told at once', async () => {
  expect(await run([GONE])).toEqual({ seen: [], pauses: [], code: 'DAEMON_NOT_RUNNING' })
})

test('a daemon that ends, in order or by force, is waited for and listened to again', async () => {
  const { seen, pauses } = await run([[READY], GONE, GONE, [READY], [READY, { type: 'emergency_stop' }]])
  expect(seen).toEqual(['ready', 'disconnected', 'ready', 'disconnected', 'ready', 'emergency_stop'])
  // Longer from try to try, and from the beginning after each connection.
  expect(pauses).toHaveLength(4)
  expect(pauses[1]! / pauses[0]!).toBe(2)
  expect(pauses[2]! / pauses[1]!).toBe(2)
  expect(pauses[3]).toBe(pauses[0])
})

test('it does not wait for ever longer', async () => {
  const { pauses } = await run([[READY], ...Array.from({ length: 20 }, () => GONE)])
  expect(Math.max(...pauses)).toBe(pauses.at(-1))
  expect(pauses.at(-1)).toBe(pauses.at(-2))
})

test('another failure than a daemon that is away is not waited for', async () => {
  const { code, pauses } = await run([[READY], new AgentMeshError('MALFORMED')])
  expect([code, pauses.length]).toEqual(['MALFORMED', 1])
})

test('a listener that is told to end waits for no daemon', async () => {
  const stop = new AbortController()
  stop.abort()
  expect(await run([[READY]], stop)).toMatchObject({ seen: ['ready'], pauses: [], code: 'WAIT_TIMEOUT' })
})
