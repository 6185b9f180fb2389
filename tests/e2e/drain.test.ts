/** A relay that is asked to end moves its agents elsewhere in portions, takes no new ones, and loses nothing. Real processes. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Program, runServer } from '../support/processes.ts'
import { RawAgent } from './relay-harness.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-drain-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const AGENTS = 100

async function start(data: string, ...more: string[]) {
  const program = new Program(['apps/relay/dist/main.js', '--data', data, '--port', '0', ...more])
  const { url } = await program.ready<{ url: string }>()
  return { program, url, http: url.replace(/^ws/, 'http') }
}

test('SIGTERM: not ready, nobody new, agents told in portions, and what was on its way stored', async () => {
  const data = join(folder, 'relay.db')
  const { program, url, http } = await start(data, '--drain-seconds', '3600')
  const bob = new RawAgent(url)
  await bob.connect()
  const agents: RawAgent[] = []
  for (let n = 0; n < AGENTS; n++) {
    const agent = new RawAgent(url)
    await agent.connect()
    agents.push(agent)
  }
  const alice = agents.at(-1)!
  // Bob has it and does not say so.
  alice.send(bob.amid, 'before')
  await bob.next('RECEIVE')

  process.kill(program.pid, 'SIGTERM')
  const told = await bob.next('ERROR')
  expect(told).toMatchObject({ code: 'RELAY_SHUTTING_DOWN', fatal: true })
  expect(told.retryAfterSeconds).toBeGreaterThan(0)
  expect(await bob.closed).toBe(1001)

  // Alice is the last of all: she is still served, and the relay takes nobody new.
  expect((await alice.next('SENT')).status).toBe('stored')
  alice.send(bob.amid, 'after')
  expect((await alice.next('SENT')).status).toBe('stored')
  expect((await fetch(`${http}/readyz`)).status).toBe(503)
  expect((await fetch(`${http}/healthz`)).status).toBe(200)
  const late = new RawAgent(url)
  expect(await late.next('ERROR')).toMatchObject({
    code: 'RELAY_SHUTTING_DOWN',
    fatal: true,
    retryAfterSeconds: 10,
  })

  await expect
    .poll(() => agents.some((agent) => agent.frames.some(({ frame }) => frame === 'ERROR')))
    .toBe(true)
  expect(alice.frames).toEqual([])

  // A second signal ends it, in order.
  process.kill(program.pid, 'SIGTERM')
  const waits = await Promise.all(agents.map(async (agent) => (await agent.next('ERROR')).retryAfterSeconds!))
  // Ten go each second at least.
  expect(Math.max(...waits)).toBeLessThanOrEqual(10)
  // Nobody is told to come back later than those who were told before.
  expect(waits).toEqual(waits.toSorted((x, y) => y - x))
  await program.ended()
  expect(program.exitCode).toBe(0)

  const again = await runServer('relay', data)
  const back = new RawAgent(again.url, 'bin', bob.identity)
  expect((await back.connect()).pendingMessages).toBe(2)
  const texts = [await back.next('RECEIVE'), await back.next('RECEIVE')].map(({ payload }) =>
    Buffer.from(payload).toString(),
  )
  expect(texts.toSorted()).toEqual(['after', 'before'])
  await again.program.end()
})

test('a registry says that it goes before it is gone, and answers meanwhile', async () => {
  const args = 'apps/registry/dist/main.js --port 0 --data :memory: --log-level error --drain-seconds 3600'
  const program = new Program(args.split(' '))
  const { url } = await program.ready<{ url: string }>()
  expect((await fetch(`${url}/readyz`)).status).toBe(200)
  process.kill(program.pid, 'SIGTERM')
  let ready = await fetch(`${url}/readyz`)
  while (ready.status === 200) ready = await fetch(`${url}/readyz`)
  expect([ready.status, await ready.json()]).toMatchObject([503, { code: 'REGISTRY_SHUTTING_DOWN' }])
  expect(ready.headers.get('connection')).toBe('close')
  expect((await fetch(`${url}/v1/registry/taxonomy`)).status).toBe(200)
  process.kill(program.pid, 'SIGTERM')
  expect(await program.ended()).toBe(0)
})
