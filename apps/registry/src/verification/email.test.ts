import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { TestAgent } from '../test-support.ts'
import { newCode, parseAddress } from './email.ts'
import { MailServer } from './test-support-mail.ts'
import { humanHex, startVerification, verification, type TestRegistry } from './test-support-verification.ts'

let server: MailServer
let port: number
let registry: TestRegistry
let alice: TestAgent
let mallory: TestAgent

const smtp = () => ({ host: '127.0.0.1', port, security: 'none' })
const begin = (agent: TestAgent, address: string) =>
  verification(agent, 'email', { provider: 'email', address })
const end = (agent: TestAgent, id: string, code: string, more: object = {}) =>
  verification(agent, 'email/finish', { verification_id: id, code, ...more })
/** Any code but this one. */
const wrong = (code: string) => String((Number(code) + 1) % 1e8).padStart(8, '0')

beforeAll(async () => {
  server = new MailServer()
  port = await server.listen()
})
afterAll(async () => {
  await server.close()
})
beforeEach(async () => {
  server.mails.length = 0
  server.tried.length = 0
  registry = await startVerification([{ type: 'email', from: 'agents@registry.example', smtp: smtp() }])
  alice = await registry.agent('alice')
  mallory = await registry.agent('mallory')
})
afterEach(async () => {
  await registry.close()
})

it('verifies whoever reads the mail of an address, however it is spelt', async () => {
  const { status, body } = await begin(alice, 'Anna@Example.ORG')
  expect([status, Object.keys(body).toSorted()]).toEqual([202, ['expires_at', 'verification_id']])
  const code = await server.code(1)
  expect(server.mails[0]).toMatchObject({ from: 'agents@registry.example', to: ['Anna@example.org'] })
  expect(server.mails[0]!.text).toContain(alice.amid)
  const reply = await end(alice, body.verification_id, code, { display_name: 'Anna' })
  expect([reply.status, reply.body.tier, reply.body.display_name]).toEqual([200, 1, 'Anna'])
  const again = await begin(mallory, 'anna+agents@example.org')
  expect((await end(mallory, again.body.verification_id, await server.code(2))).status).toBe(200)
  expect(humanHex(registry.verified[0])).toBe(humanHex(registry.verified[1]))
})

it('refuses a code that was used, of another attempt, or shown by another agent', async () => {
  const first = (await begin(alice, 'anna@example.org')).body.verification_id
  const firstCode = await server.code(1)
  const second = (await begin(alice, 'anna@example.org')).body.verification_id
  await server.code(2)
  expect((await end(mallory, first, firstCode)).body.code).toBe('VERIFICATION_UNKNOWN')
  expect((await end(alice, second, firstCode)).body.code).toBe('VERIFICATION_REFUSED')
  expect((await end(alice, first, firstCode)).status).toBe(200)
  expect((await end(alice, first, firstCode)).body.code).toBe('VERIFICATION_UNKNOWN')
  expect(registry.verified).toHaveLength(1)
})

it('gives five tries, and then the right code is too late', async () => {
  const { body } = await begin(alice, 'anna@example.org')
  const code = await server.code(1)
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const refused = await end(alice, body.verification_id, wrong(code))
    expect([refused.status, refused.body.code]).toEqual([403, 'VERIFICATION_REFUSED'])
  }
  expect((await end(alice, body.verification_id, code)).body.code).toBe('VERIFICATION_UNKNOWN')
})

it('refuses a code after ten minutes', async () => {
  const { body } = await begin(alice, 'anna@example.org')
  const code = await server.code(1)
  registry.pass(600_000)
  expect((await end(alice, body.verification_id, code)).body.code).toBe('VERIFICATION_UNKNOWN')
})

it('answers the same for an address that gets no more mail and for one the server refuses', async () => {
  const bodies = []
  for (const address of ['anna@example.org', 'anna@example.org', 'anna@example.org']) {
    bodies.push(await begin(alice, address))
  }
  await server.code(3)
  bodies.push(await begin(mallory, 'ANNA+x@example.org'), await begin(mallory, 'refused@example.org'))
  await server.until(() => server.tried.includes('refused@example.org'))
  expect(server.mails).toHaveLength(3)
  expect(
    new Set(bodies.map(({ status, body }) => `${status} ${Object.keys(body).toSorted().join()}`)).size,
  ).toBe(1)
  const silent = await end(mallory, bodies[3]!.body.verification_id, '12345678')
  const refused = await end(mallory, bodies[4]!.body.verification_id, '12345678')
  expect([silent.status, silent.body]).toEqual([refused.status, refused.body])
  registry.pass(600_000)
  await begin(mallory, 'anna@example.org')
  await server.code(4)
})

it('says that the mail server is away before it looks at an address', async () => {
  const closed = await startVerification([
    { type: 'email', from: 'agents@registry.example', smtp: { ...smtp(), port: 1 } },
  ])
  const agent = await closed.agent('alice')
  const reply = await begin(agent, 'anna@example.org')
  await closed.close()
  expect([reply.status, reply.body.code]).toEqual([503, 'PROVIDER_UNAVAILABLE'])
})

it('never talks in the clear to a server that should have offered TLS', async () => {
  const strict = await startVerification([
    { type: 'email', from: 'agents@registry.example', smtp: { host: '127.0.0.1', port } },
  ])
  const reply = await begin(await strict.agent('alice'), 'anna@example.org')
  await strict.close()
  expect([reply.status, reply.body.code]).toEqual([503, 'PROVIDER_UNAVAILABLE'])
  expect(server.mails).toEqual([])
})

it.each([
  ['a header after it', 'anna@example.org\r\nBcc: all@example.org'],
  ['a second address', 'anna@example.org,bob@example.org'],
  ['angle brackets', '<anna@example.org>'],
  ['a name before it', 'Anna <anna@example.org>'],
  ['a quoted local part', '"anna bob"@example.org'],
  ['an address literal', 'anna@[127.0.0.1]'],
  ['a bare number for a host', 'anna@127.0.0.1'],
  ['a host without a dot', 'anna@localhost'],
  ['a route', '@relay.example:anna@example.org'],
  ['two ats', 'anna@evil@example.org'],
  ['a comment', 'anna(x)@example.org'],
  ['a zero byte', 'anna\0@example.org'],
  ['nothing before the at', '@example.org'],
])('refuses an address with %s and sends nothing', async (_name, address) => {
  const reply = await begin(alice, address)
  expect([reply.status, reply.body.code]).toEqual([400, 'MALFORMED'])
  expect(server.tried).toEqual([])
})

describe('addresses', () => {
  it.each([
    ['Anna.Smith@GMail.com', 'annasmith@gmail.com'],
    ['annasmith+mesh@googlemail.com', 'annasmith@gmail.com'],
    ['Anna.Smith+x@example.org', 'anna.smith@example.org'],
    ['anna@Bücher.example', 'anna@xn--bcher-kva.example'],
    ['+x@example.org', '+x@example.org'],
  ])('%s is %s', (text, subject) => {
    expect(parseAddress(text).account).toEqual({ issuer: 'mailto:', subject })
  })
})

it('draws codes of eight digits', () => {
  const codes = Array.from({ length: 200 }, newCode)
  expect(codes.every((code) => /^\d{8}$/.test(code))).toBe(true)
  expect(new Set(codes).size).toBeGreaterThan(190)
})
