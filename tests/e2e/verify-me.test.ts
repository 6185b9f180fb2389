/**
 * `agentmesh verify-me` between real processes: registry with its authority, daemon, command, and a browser that is a
 * program; the providers are real OpenID Connect, OAuth and mail servers on this machine.
 */
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { OAuth2Server, type MutableToken } from 'oauth2-mock-server'
import { SMTPServer } from 'smtp-server'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../apps/registry/src/test-support-postgres.ts'
import {
  startGithubLike,
  type GithubLike,
} from '../../apps/registry/src/verification/test-support-providers.ts'
import { errorCode, run, start, type Process } from './cli-harness.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-verify-'))
const home = (name: string) => join(folder, name)
const NAMES = ['alice', 'bob', 'carol', 'dora']
const oidc = new OAuth2Server()
const mails: string[] = []
let newMail: () => void = () => {}
const mail = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onData(stream, _session, done) {
    let text = ''
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
    stream.on('end', () => {
      mails.push(text)
      newMail()
      done()
    })
  },
})
let github: GithubLike
let registry: Process
let relay: Process
let url = ''
/** A browser whose person agrees at once: it follows redirects and ends. */
const browser = join(folder, 'browser')
/** One whose person says no. */
const refusing = join(folder, 'refusing-browser')

const value = ({ stdout }: { stdout: string }) => JSON.parse(stdout) as Record<string, unknown>

beforeAll(async () => {
  await oidc.issuer.keys.generate('RS256')
  await oidc.start(0, '127.0.0.1')
  oidc.issuer.url = `http://127.0.0.1:${oidc.address().port}`
  github = await startGithubLike()
  github.interval = 1
  const smtp = mail.listen(0, '127.0.0.1')
  await once(smtp, 'listening')
  writeFileSync(browser, '#!/usr/bin/env node\nawait fetch(process.argv[2])\n')
  writeFileSync(
    refusing,
    [
      '#!/usr/bin/env node',
      'const asked = new URL(process.argv[2]).searchParams',
      "const back = new URL(asked.get('redirect_uri'))",
      "back.search = new URLSearchParams({ error: 'access_denied', state: asked.get('state') })",
      'await fetch(back)',
      '',
    ].join('\n'),
  )
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  for (const program of [browser, refusing]) chmodSync(program, 0o755)
  const app = { client_id: 'agentmesh', client_secret: 'github-secret' }
  writeFileSync(
    join(folder, 'providers.json'),
    JSON.stringify({
      providers: [
        { type: 'oidc', name: 'work', issuer: oidc.issuer.url, ...app },
        { type: 'github', ...app, url: github.url, api_url: `${github.url}/api`, device: true },
        {
          type: 'email',
          from: 'agents@registry.example',
          smtp: { host: '127.0.0.1', port: (smtp.address() as AddressInfo).port, security: 'none' },
        },
      ],
    }),
  )
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  const data = join(folder, 'registry.db')
  const made = await run(['registry', 'init', '--data', data, '--url', url, '--json'])
  if (made.code !== 0) throw new Error(made.stderr)
  const providers = join(folder, 'providers.json')
  registry = start(['registry', '--port', String(port), '--data', data, '--providers', providers, '--json'])
  relay = start(['relay', '--port', '0', '--data', join(folder, 'relay.db'), '--json'])
  await registry.line((line) => 'url' in line)
  const relayLine = await relay.line((line) => 'url' in line)
  for (const name of [...NAMES, 'stranger']) {
    const servers = ['--registry', url, '--relay', String(relayLine['url'])]
    const init = await run(['init', '--home', home(name), ...servers, '--json'])
    if (init.code !== 0) throw new Error(init.stderr)
    if (name !== 'stranger') await registered(name)
  }
})
afterAll(async () => {
  for (const name of NAMES) await run(['down', '--home', home(name)])
  await registry.stop()
  await relay.stop()
  await oidc.stop()
  await github.close()
  await new Promise<void>((resolve) => mail.close(resolve))
  rmSync(folder, { recursive: true, force: true })
})

async function registered(name: string): Promise<void> {
  let state = value(await run(['up', '--home', home(name), '--json']))
  while ((state['registry'] as Record<string, unknown>)['state'] !== 'registered') {
    state = value(await run(['status', '--home', home(name), '--json']))
  }
}

const verifyMe = (name: string, args: readonly string[], env: Record<string, string> = {}) =>
  start(['verify-me', '--home', home(name), '--json', ...args], { BROWSER: browser, ...env })

async function tierOf(amid: unknown): Promise<unknown> {
  const answer = await fetch(`${url}/v1/registry/lookup?amid=${String(amid)}`)
  return ((await answer.json()) as { tier: unknown }).tier
}

test('through the browser, while the daemon runs: verified, under the chosen name', async () => {
  const ended = await verifyMe('alice', ['--provider', 'work', '--display-name', 'Anna']).ended
  expect([ended.code, ended.stderr]).toEqual([0, expect.stringContaining('/authorize?')])
  const result = value(ended)
  expect(result).toMatchObject({ tier: 1, display_name: 'Anna', provider: 'work' })
  expect(await tierOf(result['amid'])).toBe(1)
})

test('somebody else cannot vouch for that agent any more', async () => {
  const mark = ({ payload }: MutableToken): void => void (payload['sub'] = 'mark')
  oidc.service.on('beforeTokenSigning', mark)
  const ended = await verifyMe('alice', ['--provider', 'work']).ended
  oidc.service.off('beforeTokenSigning', mark)
  expect([ended.code, errorCode(ended)]).toEqual([4, 'VERIFIED_BY_ANOTHER'])
})

test('with --no-browser the address is printed for any browser', async () => {
  const running = verifyMe('bob', ['--provider', 'github', '--no-browser'])
  await running.until(() => /http\S+authorize\S+/.test(running.stderr))
  const [address = ''] = /http\S+authorize\S+/.exec(running.stderr) ?? []
  const page = await (await fetch(address)).text()
  expect(page).toContain('you may close this page')
  const ended = await running.ended
  expect([ended.code, value(ended)['display_name']]).toEqual([0, null])
})

test('says so when the person does not agree', async () => {
  const ended = await verifyMe('carol', ['--provider', 'work'], { BROWSER: refusing }).ended
  expect([ended.code, errorCode(ended)]).toEqual([4, 'VERIFICATION_REFUSED'])
})

test('on another device', async () => {
  github.typed = true
  const ended = await verifyMe('carol', ['--device', '--display-name', 'Carol']).ended
  expect(ended.stderr).toContain('ABCD-1234')
  expect([ended.code, value(ended)['display_name']]).toEqual([0, 'Carol'])
})

test('by a code that comes by mail, given on stdin', async () => {
  const refused = verifyMe('bob', ['--email', 'not an address'])
  refused.child.stdin!.end()
  expect(errorCode(await refused.ended)).toBe('MALFORMED')
  const arrived = new Promise<void>((resolve) => (newMail = resolve))
  const asking = verifyMe('dora', ['--email', 'dora@example.org'])
  await arrived
  const [, code = ''] = /code: (\d{8})/.exec(mails.at(-1) ?? '') ?? []
  asking.child.stdin!.end(`${code}\n`)
  const ended = await asking.ended
  expect([ended.code, value(ended)['provider']]).toEqual([0, 'email'])
})

test('tells what to do before it begins: several providers, none that fits, an agent that is not registered', async () => {
  const several = await verifyMe('alice', []).ended
  expect([several.code, several.stderr]).toEqual([2, expect.stringContaining('work (browser)')])
  const none = await verifyMe('alice', ['--provider', 'myspace']).ended
  expect([none.code, errorCode(none)]).toEqual([2, 'USAGE'])
  const stranger = await verifyMe('stranger', ['--provider', 'work']).ended
  expect(errorCode(stranger)).toBe('NOT_REGISTERED')
})
