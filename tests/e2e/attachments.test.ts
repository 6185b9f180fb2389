/** Files that go along with requests and answers, between embedded agents at a relay and a registry. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

let network: TestNetwork

beforeEach(async () => {
  network = await TestNetwork.start()
})
afterEach(() => network.close())

const MIB = 1024 * 1024
const ask = { intent: FLIGHTS, parameters: {} }

test('files go along with a request and with its answer, byte for byte', async () => {
  const question = randomBytes(3 * MIB + 17)
  const reply = randomBytes(2 * MIB)
  const bob = await network.agent('bob')
  let seen: unknown
  bob.on('request', async ({ attachments = [] }) => {
    const [file, empty] = attachments
    seen = {
      name: file?.name,
      type: file?.media_type,
      size: file?.size,
      empty: (await empty?.read())?.length,
    }
    expect(Buffer.from((await file?.read()) ?? [])).toEqual(question)
    return { results: 'see file', attachments: [{ data: reply, name: 'reply.bin' }] }
  })
  const alice = await network.agent('alice')
  const sent = await alice.send(bob.amid, {
    ...ask,
    attachments: [
      { data: question, name: '../../etc/passwd', mediaType: 'image/png' },
      { data: new Uint8Array(0) },
    ],
  })
  const answer = await sent.answer()
  expect(answer).toMatchObject({ type: 'response', attachments: [{ name: 'reply.bin', size: reply.length }] })
  expect(seen).toEqual({ name: '../../etc/passwd', type: 'image/png', size: question.length, empty: 0 })
  const [file] = answer.type === 'response' ? (answer.attachments ?? []) : []
  expect(Buffer.from(await alice.attachments.byHandle(file!.handle).read())).toEqual(reply)
  const path = join(network.folder, 'saved')
  await alice.attachments.byHandle(file!.handle).saveTo(path)
  expect(readFileSync(path)).toEqual(reply)
  expect(statSync(path).mode & 0o777).toBe(0o600)
  await expect(alice.attachments.byHandle(file!.handle).saveTo(path)).rejects.toMatchObject({
    code: 'ATTACHMENT_UNWRITABLE',
  })
  // Sealed under names of the receiver's own.
  for (const name of readdirSync(join(network.folder, 'bob', 'attachments')))
    expect(name).toMatch(/^[0-9a-f]{32}$/)
})
