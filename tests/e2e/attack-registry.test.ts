/** A registry that lies to an agent: what it says is not used, and the owner learns of it. */
import { once } from 'node:events'
import { createServer, request as httpRequest, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { startRegistry, type RunningRegistry } from '@agentmesh/registry'
import { readAuditLog, type Agent, type Notice } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FLIGHTS, TestNetwork } from '../support/network.ts'

/** Changes an answer; the text goes out as it comes back. */
type Mischief = (url: string, answer: string) => string

const single = { sessionType: 'request_response' } as const
const ask = { intent: FLIGHTS, parameters: {} }

let network: TestNetwork
let registry: RunningRegistry
let door: Server
let url: string
let mischief: Mischief

/** Before the registry, under the name agents know. */
function pass(): Server {
  return createServer((incoming, outgoing) => {
    const { method, url: path = '', headers } = incoming
    const onward = httpRequest(
      { port: registry.port, method, path, headers, host: '127.0.0.1' },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString()
          const body = answer.statusCode === 200 ? mischief(path, text) : text
          const { 'content-length': _, ...rest } = answer.headers
          outgoing.writeHead(answer.statusCode ?? 502, rest).end(body)
        })
      },
    )
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  })
}

beforeEach(async () => {
  network = await TestNetwork.start()
  mischief = (_url, answer) => answer
  door = pass()
  door.listen(0, '127.0.0.1')
  await once(door, 'listening')
  url = `http://127.0.0.1:${(door.address() as AddressInfo).port}`
  registry = await startRegistry({ dataPath: ':memory:', publicUrl: url })
})
afterEach(async () => {
  await network.close()
  await registry.close()
  door.closeAllConnections()
  door.close()
})

async function agent(name: string, config: object = {}): Promise<Agent> {
  const opened = await network.agent(name, { registry: url, ...config })
  opened.on('request', () => ({ results: name }))
  return opened
}

async function refusals(of: Agent): Promise<unknown[]> {
  await of.close()
  return [...readAuditLog(join(of.home, 'logs'))].filter(({ event }) => event === 'registry_refused')
}

test('keys that are not the agent’s are not used, and owner and log are told', async () => {
  const [alice, bob, carol] = [await agent('alice'), await agent('bob'), await agent('carol')]
  const notices: Notice[] = []
  alice.events.on('notice', (notice) => notices.push(notice))
  mischief = (path, answer) =>
    path.endsWith('/prekeys/fetch') ? answer.replaceAll(bob.amid, carol.amid) : answer
  const sent = await alice.send(bob.amid, ask, single)
  await expect(sent.answer()).rejects.toMatchObject({ code: 'REGISTRY_ANSWER_INVALID' })
  expect(notices).toMatchObject([{ about: 'registry', text: expect.stringContaining(url) }])
  expect(await refusals(alice)).toMatchObject([{ registry: url, code: 'REGISTRY_ANSWER_INVALID' }])
})

test('a record older than one seen before is not used, and owner and log are told', async () => {
  const alice = await agent('alice')
  let bob = await agent('bob')
  let old: string | undefined
  mischief = (path, answer) => {
    if (path.includes(`lookup?amid=${bob.amid}`)) old ??= answer
    return answer
  }
  await (await alice.send(bob.amid, ask, single)).answer()
  await bob.close()
  bob = await agent('bob', { display_name: 'bob, renamed' })
  await (await alice.send(bob.amid, ask, single)).answer()
  expect(old).toContain('"bob"')
  mischief = (path, answer) => (path.includes(`lookup?amid=${bob.amid}`) && old !== undefined ? old : answer)
  const sent = await alice.send(bob.amid, ask, single)
  await expect(sent.answer()).rejects.toMatchObject({ code: 'REGISTRY_ANSWER_INVALID' })
  expect(await refusals(alice)).toMatchObject([
    { registry: url, detail: expect.stringContaining('older record') },
  ])
})
