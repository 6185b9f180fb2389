/** `kill -9` in the middle of a file, to the sender, the receiver and the relay: both ways, byte for byte. */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { AgentClient, Answer } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS } from '../support/network.ts'
import { answerOf, ProcessMesh, type Member, type Work } from '../support/process-mesh.ts'
import { until } from '../support/until.ts'

let mesh: ProcessMesh
let alice: Member
let bob: Member

beforeEach(async () => {
  mesh = await ProcessMesh.start()
  ;[alice, bob] = await Promise.all([mesh.online('alice'), mesh.online('bob')])
})
afterEach(() => mesh.close())

const MIB = 1024 * 1024
const hashOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64')

async function hashAt(client: AgentClient, handle: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of await client.attachment(handle)) hash.update(bytes)
  return hash.digest('base64')
}

/** Sends back the hash of the first file, and the file itself. */
const sendBack: Work = async ({ attachments = [] }) => {
  const parts: Uint8Array[] = []
  for await (const bytes of await bob.client.attachment(attachments[0]!.handle)) parts.push(bytes)
  const data = Buffer.concat(parts)
  return { results: hashOf(data), attachments: [{ data, name: 'back' }] }
}

/** Bytes that lie in a member's folder of files, of whichever direction. */
function held(member: Member): number {
  const folder = join(member.home, 'attachments')
  return readdirSync(folder).reduce(
    (sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  )
}

const comesTo = (what: () => boolean) => until(String(what), async () => what(), Boolean)

async function expectWhole(answer: Answer, data: Uint8Array): Promise<void> {
  expect(answer).toMatchObject({ type: 'response', payload: { results: hashOf(data) } })
  const [file] = answer.type === 'response' ? (answer.attachments ?? []) : []
  expect(file).toMatchObject({ size: data.length, sha256: hashOf(data) })
  expect(await hashAt(alice.client, file!.handle)).toBe(hashOf(data))
}

test('the receiver, the sender and the relay are killed in mid-file, and nothing is lost', async () => {
  const data = randomBytes(20 * MIB)
  mesh.listen(bob, sendBack)
  const id = await alice.client.send(bob.amid, { intent: FLIGHTS, parameters: {}, attachments: [{ data }] })
  await comesTo(() => held(bob) > 2 * MIB)
  await bob.kill()
  expect(held(bob)).toBeLessThan(20 * MIB)
  await bob.start()
  mesh.listen(bob, sendBack)
  await comesTo(() => held(bob) > 6 * MIB)
  await alice.kill()
  expect(held(bob)).toBeLessThan(20 * MIB)
  await alice.start()
  await comesTo(() => held(bob) > 10 * MIB)
  await mesh.stop('relay')
  expect(held(bob)).toBeLessThan(20 * MIB)
  await mesh.restart('relay')
  await comesTo(() => held(alice) > 0 && held(bob) > 21 * MIB)
  await bob.kill()
  await bob.start()
  mesh.listen(bob, sendBack)
  await expectWhole(await answerOf(alice.client, id), data)
})

test('a receiver that is away gets the file when it is back', async () => {
  const data = randomBytes(2 * MIB)
  await bob.kill()
  const id = await alice.client.send(bob.amid, { intent: FLIGHTS, parameters: {}, attachments: [{ data }] })
  await bob.start()
  mesh.listen(bob, sendBack)
  await expectWhole(await answerOf(alice.client, id), data)
})
