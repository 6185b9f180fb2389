import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isAgentMeshError } from '@agentmesh/sdk/wire'
import { exportPKCS8, generateKeyPair } from 'jose'
import { afterAll, expect, it } from 'vitest'
import { boundedFetch } from './bounded-fetch.ts'
import { readProviders } from './configuration.ts'
import { humanOf } from './human.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-providers-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const google = { type: 'google', client_id: 'id', client_secret: 'GOCSPX-very-secret' }
const context = { maxSeconds: 600, now: Date.now }

function read(content: unknown) {
  const path = join(folder, 'providers.json')
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return readProviders(path, context)
}

async function mistake(content: unknown): Promise<string> {
  const failure: unknown = await read(content).catch((error: unknown) => error)
  if (!isAgentMeshError(failure, 'MALFORMED')) throw new Error('It was taken', { cause: failure })
  return failure.message
}

it('reads every kind of provider', async () => {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const providers = await read({
    providers: [
      { ...google, device: true },
      { type: 'oidc', name: 'work', issuer: 'https://id.example.org/realms/a', client_id: 'id' },
      { type: 'github', client_id: 'id', client_secret: 's', device: false },
      {
        type: 'apple',
        client_id: 'org.example.agents',
        team_id: 'TEAM123456',
        key_id: 'KEY1234567',
        private_key: await exportPKCS8(privateKey),
      },
      {
        type: 'email',
        from: 'agents@example.org',
        smtp: { host: 'mail.example.org', user: 'u', password: 'p' },
      },
    ],
  })
  expect([...providers.values()].map(({ name, type, ways }) => [name, type, ...ways])).toEqual([
    ['google', 'google', 'browser', 'device'],
    ['work', 'oidc', 'browser'],
    ['github', 'github', 'browser'],
    ['apple', 'apple', 'browser'],
    ['email', 'email', 'email'],
  ])
})

it.each<[string, unknown, string]>([
  ['no JSON', '{', 'Providers file'],
  ['no providers', { providers: [] }, 'providers'],
  [
    'a type nobody knows',
    { providers: [{ type: 'myspace' }] },
    'providers[0] (myspace): type is one of google',
  ],
  [
    'a missing field',
    { providers: [google, { type: 'github', client_id: 'x' }] },
    "providers[1] (github): input must have required property 'client_secret'",
  ],
  ['a misspelt field', { providers: [{ ...google, cleint_id: 'x' }] }, 'cleint_id is no field of'],
  [
    'a misspelt field inside',
    {
      providers: [{ type: 'email', from: 'a@b.example', smtp: { host: 'h', tls: true } }],
    },
    'tls is no field of providers[0] (email) smtp',
  ],
  ['a name twice', { providers: [google, google] }, 'the name google is taken'],
  [
    'an issuer without TLS',
    { providers: [{ type: 'oidc', issuer: 'http://id.example.org', client_id: 'x' }] },
    'issuer is an https URL',
  ],
  [
    'an issuer with a password',
    {
      providers: [{ type: 'oidc', issuer: 'https://a:b@id.example.org', client_id: 'x' }],
    },
    'issuer is an https URL',
  ],
  [
    'an Apple key that is none',
    {
      providers: [
        { type: 'apple', client_id: 'x', team_id: 'TEAM123456', key_id: 'KEY1234567', private_key: 'x' },
      ],
    },
    'providers[0] (apple)',
  ],
  [
    'a user without a password',
    {
      providers: [{ type: 'email', from: 'a@b.example', smtp: { host: 'h', user: 'u' } }],
    },
    'user and password, or neither',
  ],
  [
    'a sender with a header in it',
    {
      providers: [{ type: 'email', from: 'a@b.example\nBcc: x', smtp: { host: 'h' } }],
    },
    'mail address',
  ],
])('names the mistake in a file with %s, and no secret', async (_name, content, message) => {
  const said = await mistake(content)
  expect(said).toContain(message)
  expect(said).not.toContain('GOCSPX')
})

it('says so when the file is not there', async () => {
  const failure: unknown = await readProviders(join(folder, 'none.json'), context).catch(
    (error: unknown) => error,
  )
  expect(isAgentMeshError(failure, 'MALFORMED')).toBe(true)
})

it.each([
  ['http', 'http://id.example.org/token'],
  ['this machine', 'https://localhost/token'],
  ['an address of this machine', 'https://127.0.0.1/token'],
  ['the metadata service of a cloud', 'https://169.254.169.254/latest/meta-data'],
  ['an address of the network inside', 'https://10.0.0.1/token'],
  ['an IPv6 address', 'https://[fd00::1]/token'],
  ['a file', 'file:///etc/passwd'],
])('does not ask %s when the metadata of a provider elsewhere names it', async (_name, url) => {
  await expect(boundedFetch('https://id.example.org')(url)).rejects.toThrow('is not asked')
})

it('hashes the same account the same way, and others or under another secret differently', () => {
  const secret = new Uint8Array(32).fill(1)
  const hash = (issuer: string, subject: string, key = secret) =>
    Buffer.from(humanOf(key, { issuer, subject })).toString('hex')
  const hashes = [
    hash('https://a.example', '1'),
    hash('https://a.example', '2'),
    hash('https://b.example', '1'),
    hash('https://a.example1', ''),
    hash('https://a.example', '1', new Uint8Array(32).fill(2)),
  ]
  expect(new Set(hashes).size).toBe(5)
  expect(hash('https://a.example', '1')).toBe(hashes[0])
})
