import { request } from 'node:http'
import { isAgentMeshError } from '@agentmesh/sdk'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { LoopbackReceiver } from './loopback-receiver.ts'

const STATE = 's'.repeat(43)
const MINUTE = 60_000
let receiver: LoopbackReceiver

beforeEach(async () => {
  receiver = await LoopbackReceiver.open()
})
afterEach(() => {
  receiver.close()
})

function ask(
  path: string,
  options: { readonly method?: string; readonly host?: string } = {},
): Promise<{ status: number | undefined; text: string; headers: NodeJS.Dict<string | string[]> }> {
  const { port } = new URL(receiver.redirectUri)
  const { method = 'GET', host = `127.0.0.1:${port}` } = options
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path, method, headers: { host } }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve({ status: response.statusCode, text, headers: response.headers }))
    })
    asked.on('error', reject)
    asked.end()
  })
}

const failureOf = (answer: Promise<unknown>): Promise<unknown> => answer.catch((error: unknown) => error)

it('listens on 127.0.0.1 only, at a port that was free', () => {
  expect(receiver.redirectUri).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/callback$/)
})

it('takes the one answer with its state and tells the person that it is done', async () => {
  const answer = receiver.answer(STATE, MINUTE)
  const page = await ask(`/callback?code=abc&state=${STATE}&iss=https%3A%2F%2Fid.example`)
  expect([page.status, page.text]).toEqual([200, expect.stringContaining('you may close this page')])
  expect(page.headers['content-security-policy']).toBe("default-src 'none'")
  expect(await answer).toEqual({ code: 'abc', iss: 'https://id.example' })
  expect((await ask(`/callback?code=def&state=${STATE}`)).status).toBe(400)
})

it.each<[string, string, { method?: string; host?: string }, number]>([
  ['another path', `/other?code=evil&state=${STATE}`, {}, 404],
  ['another method', `/callback?code=evil&state=${STATE}`, { method: 'POST' }, 404],
  [
    'a name that was rebound to this machine',
    `/callback?code=evil&state=${STATE}`,
    { host: 'evil.example' },
    400,
  ],
  ['another state', `/callback?code=evil&state=${'x'.repeat(43)}`, {}, 400],
  ['no state', '/callback?code=evil', {}, 400],
])('goes on waiting after %s', async (_name, path, options, status) => {
  const answer = receiver.answer(STATE, MINUTE)
  expect((await ask(path, options)).status).toBe(status)
  await ask(`/callback?code=good&state=${STATE}`)
  expect((await answer).code).toBe('good')
})

it('takes no answer before it knows the state', async () => {
  expect((await ask('/callback?code=evil&state=')).status).toBe(400)
})

it('says so when the person did not agree, and shows nothing of the request', async () => {
  const answer = failureOf(receiver.answer(STATE, MINUTE))
  const page = await ask(`/callback?error=access_denied%3Cscript%3E&state=${STATE}`)
  expect(page.text).not.toContain('script')
  const failure = await answer
  expect(isAgentMeshError(failure, 'VERIFICATION_REFUSED') && failure.message).toContain(
    'access_deniedscript',
  )
})

it('gives up when nobody comes', async () => {
  expect(isAgentMeshError(await failureOf(receiver.answer(STATE, 0)), 'VERIFICATION_UNKNOWN')).toBe(true)
})
