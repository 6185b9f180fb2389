import { expect, it } from 'vitest'
import { NOW, testIdentity, testRandom } from '../identity/test-support.ts'
import { isAgentMeshError } from '../wire/index.ts'
import { HttpVerificationClient } from './http-verification-client.ts'

const alice = testIdentity('alice')
const ID = 'A'.repeat(32)
const STATE = 's'.repeat(43)
const LATER = '2030-01-01T00:00:00Z'

const started = {
  verification_id: ID,
  authorization_url: 'https://id.example/authorize?state=x',
  state: STATE,
  expires_at: LATER,
}
const device = {
  verification_id: ID,
  user_code: 'ABCD',
  verification_uri: 'https://id.example/device',
  interval: 5,
  expires_at: LATER,
}
const proof = {
  tree_head: {
    type: 'tree_head',
    registry: '00'.repeat(32),
    size: 1,
    root_hash: Buffer.alloc(32).toString('base64'),
    timestamp: LATER,
    signature: Buffer.alloc(64).toString('base64'),
  },
  index: 0,
  entry_timestamp: LATER,
  path: [],
}
const result = { tier: 1, display_name: null, certificate_chain: ['AAAA'], certificate_proof: proof }
const START = {
  provider: 'work',
  redirect_uri: 'http://127.0.0.1:5000/callback',
  code_challenge: 'c'.repeat(43),
}
const FINISH = { verification_id: ID, code: 'c', state: STATE, code_verifier: 'v'.repeat(43) }

/** A client whose registry gives one answer. */
function client(body: unknown, status = 200): HttpVerificationClient {
  return new HttpVerificationClient('http://registry.example', alice, {
    now: () => NOW,
    random: testRandom('verification'),
    fetch: () => Promise.resolve(new Response(JSON.stringify(body), { status })),
  })
}

async function code(call: Promise<unknown>): Promise<string | undefined> {
  const failure: unknown = await call.then(
    () => undefined,
    (error: unknown) => error,
  )
  return isAgentMeshError(failure) ? failure.code : undefined
}

it('passes on what a registry in form says', async () => {
  expect(await client(started).startVerification(START)).toEqual(started)
  expect(await client(device).startDeviceVerification('work')).toEqual(device)
  const pending = { status: 'pending', interval: 5 }
  expect(await client(pending, 202).finishDeviceVerification({ verification_id: ID })).toEqual(pending)
})

it.each([
  ['a script', 'javascript:alert(1)'],
  ['a file', 'file:///etc/passwd'],
  ['an option of a program', '--help'],
  ['a space', 'https://id.example/ --help'],
  ['a line break', 'https://id.example/\n'],
])('opens no browser at %s', async (_name, url) => {
  const answer = client({ ...started, authorization_url: url }).startVerification(START)
  expect(await code(answer)).toBe('REGISTRY_ANSWER_INVALID')
  const asked = client({ ...device, verification_uri: url }).startDeviceVerification('work')
  expect(await code(asked)).toBe('REGISTRY_ANSWER_INVALID')
})

it.each([
  ['a certificate that is none', result],
  ['no certificate', { ...result, certificate_chain: [] }],
  ['another tier', { ...result, tier: 1.5 }],
  ['an empty object', {}],
])('takes no %s for a verification, in any way', async (_name, answer) => {
  const calls = [
    client(answer).finishVerification(FINISH),
    client(answer).finishDeviceVerification({ verification_id: ID }),
    client(answer).finishEmailVerification({ verification_id: ID, code: '12345678' }),
  ]
  for (const call of calls) expect(await code(call)).toBe('REGISTRY_ANSWER_INVALID')
})

it('does not hurry where a registry names no pause', async () => {
  const answer = client({ status: 'pending', interval: 0 }, 202)
  expect(await code(answer.finishDeviceVerification({ verification_id: ID }))).toBe('REGISTRY_ANSWER_INVALID')
})

it('keeps the registry’s reason', async () => {
  const body = { code: 'VERIFIED_BY_ANOTHER', message: 'Somebody else' }
  expect(await code(client(body, 403).finishVerification(FINISH))).toBe('VERIFIED_BY_ANOTHER')
})
