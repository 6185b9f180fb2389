/** Listeners that answer twice, answer what nobody asked, flood, or hang; and peers that make their work hard. */
import { newMessageId, type MessageId } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, type Member, ProcessMesh, reached, stages, type Work } from '../support/process-mesh.ts'

let mesh: ProcessMesh
let bob: Member

beforeEach(async () => {
  mesh = await ProcessMesh.start()
  bob = await mesh.online('bob')
})
afterEach(() => mesh.close())

const talk = { sessionType: 'conversation' } as const
const request = { intent: FLIGHTS, parameters: { n: 1 } }
const echo: Work = ({ payload }) => ({ results: payload.parameters['n'] })
const unknownId = () => newMessageId((length) => crypto.getRandomValues(new Uint8Array(length)))

test('a listener that answers twice, or what nobody asked, is told so; the peer gets the first answer', async () => {
  const alice = await mesh.online('alice')
  const own = await bob.client.send(alice.amid, request)
  await reached(bob.client, own, 'delivered')
  const late: unknown[] = []
  const answering = mesh.listen(bob, () => ({ results: 'first' }))
  const id = await alice.client.send(bob.amid, request)
  await answering.until(() => answering.answered.length === 1)
  for (const wrong of [id, own, unknownId()]) {
    await bob.client.answer(wrong, { results: 'forged' }).catch((error: unknown) => late.push(error))
    await bob.client
      .requestStatus(wrong, { status: 'processing' })
      .catch((error: unknown) => late.push(error))
  }
  expect(late).toMatchObject(Array.from({ length: 6 }, () => ({ code: 'MESSAGE_UNKNOWN' })))
  expect(await answerOf(alice.client, id)).toMatchObject({ payload: { results: 'first' } })
  expect((await bob.client.status()).outbox.queued).toBe(0)
})

test('an answer that cannot be sent is refused to the listener, and the peer learns that none comes', async () => {
  const alice = await mesh.online('alice')
  const answering = mesh.listen(bob, ({ payload }) => ({
    results: 'x'.repeat(Number(payload.parameters['n'])),
  }))
  const tooLong = await alice.client.send(bob.amid, { ...request, parameters: { n: 1_000_000 } })
  expect(await answerOf(alice.client, tooLong)).toMatchObject({
    type: 'error',
    payload: { code: 'HANDLER_FAILED' },
  })
  await answering.until(() => answering.refused.length === 1)
  expect(answering.refused).toMatchObject([{ code: 'LIMIT_SIZE' }])
  const fits = await alice.client.send(bob.amid, { ...request, parameters: { n: 10 } })
  expect(await answerOf(alice.client, fits)).toMatchObject({ payload: { results: 'x'.repeat(10) } })
})

test('a listener that floods its peer with statuses is stopped by the limit, and the peer gets the answer all the same', async () => {
  const alice = await mesh.online('alice')
  const refused: unknown[] = []
  mesh.listen(bob, async (_request, handle) => {
    for (let n = 0; n < 400; n++) {
      const status = { status: 'processing', progress: n / 400 } as const
      await bob.client.requestStatus(handle, status).catch((error: unknown) => refused.push(error))
    }
    return { results: 'at last' }
  })
  const id = await alice.client.send(bob.amid, request, talk)
  const events = await stages(alice.client, id)
  expect(refused.length).toBeGreaterThan(0)
  // On another session, when the flood has used up the first.
  expect(events.at(-1)).toMatchObject({ stage: 'answered', answer: { payload: { results: 'at last' } } })
  // What the daemon keeps of a chatty peer is bounded, and so is what a late reader gets.
  expect((await stages(alice.client, id)).length).toBeLessThanOrEqual(64)
})

test('two peers that choose the same request id are both answered, and block nobody', async () => {
  const [alice, mallory] = await Promise.all([mesh.online('alice'), mesh.online('mallory')])
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  const answering = mesh.listen(bob, async ({ from }) => {
    await released
    return { results: from }
  })
  const ids: MessageId[] = Array.from({ length: 10 }, unknownId)
  for (const id of ids)
    for (const peer of [alice, mallory]) await peer.client.send(bob.amid, request, { ...talk, id })
  await answering.until(() => answering.handed.length === 2 * ids.length)
  release()
  for (const { client, amid } of [alice, mallory]) {
    for (const id of ids) expect(await answerOf(client, id)).toMatchObject({ payload: { results: amid } })
  }
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
})

test('readers that go away leave nothing behind in the daemon', async () => {
  const alice = await mesh.online('alice')
  mesh.listen(bob, echo)
  const first = await alice.client.send(bob.amid, request, talk)
  await answerOf(alice.client, first)
  const [session] = await bob.client.sessions()
  for (let n = 0; n < 30; n++) {
    for await (const message of bob.client.messages(session!.session_id)) {
      expect(message.session_id).toBe(session!.session_id)
      break
    }
  }
  await answerOf(alice.client, await alice.client.send(bob.amid, request, talk))
  expect(bob.daemon.stderr).toBe('')
})
