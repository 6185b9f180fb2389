/** The certificate authority and an organisation, as their operators run them: `registry init`, `registry`, `org`. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  Home,
  makeExchangeKey,
  openIdentity,
  openTrustDocument,
  signRegistration,
} from '@agentmesh/sdk/identity'
import { amidToBytes, formatTimestamp } from '@agentmesh/sdk/wire'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { DnsServer } from '../support/dns-server.ts'
import { errorCode, run, start, type Ended, type Process } from './cli-harness.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-organization-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const value = ({ code, stdout, stderr }: Ended): Record<string, unknown> => {
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as Record<string, unknown>
}
const running: Process[] = []
const stopAll = async (): Promise<void> => {
  await Promise.all(running.splice(0).map((server) => server.stop()))
}
async function serve(data: string, args: string[] = [], env: Record<string, string> = {}) {
  const server = start(['registry', '--port', '0', '--data', data, '--json', ...args], {
    DATABASE_URL: '',
    ...env,
  })
  running.push(server)
  return server.line((line) => 'url' in line)
}

describe('registry init', () => {
  afterEach(stopAll)

  test('makes an authority that openssl follows and the registry beside it serves', async () => {
    const data = join(folder, 'one.db')
    const made = value(await run(['registry', 'init', '--data', data, '--name', 'One', '--json']))
    const keys = join(folder, 'one.ca', 'keys')
    expect(made).toMatchObject({ name: 'One', folder: join(folder, 'one.ca'), keys: 'file' })
    for (const name of readdirSync(keys)) expect(statSync(join(keys, name)).mode & 0o777).toBe(0o600)
    expect(statSync(keys).mode & 0o777).toBe(0o700)
    const pem = (name: string) => join(keys, `${name}.pem`)
    const openssl = (...args: string[]) => execFileSync('openssl', args, { encoding: 'utf8' })
    expect(openssl('verify', '-CAfile', pem('root'), pem('intermediate'))).toContain(': OK')
    const chain = ['-CAfile', pem('root'), '-untrusted', pem('intermediate')]
    expect(openssl('verify', ...chain, pem('service'))).toContain(': OK')
    expect(
      openssl('crl', '-in', join(keys, 'root.crl'), '-CAfile', pem('root'), '-noout', '-lastupdate'),
    ).toMatch(/lastUpdate/)

    const { url, fingerprint } = await serve(data)
    expect(fingerprint).toBe(made['fingerprint'])
    const document: unknown = await (await fetch(new URL('/v1/registry/trust', String(url)))).json()
    expect(openTrustDocument(document, { now: Date.now(), fingerprint: String(fingerprint) }).name).toBe(
      'One',
    )
  })

  test('never writes over an authority, nor over a file for the root', async () => {
    const data = join(folder, 'two.db')
    const root = join(folder, 'two-root.json')
    const init = () => run(['registry', 'init', '--data', data, '--offline-root', root, '--json'])
    expect(value(await init())['root_key']).toBe(root)
    const before = readFileSync(root)
    const again = await init()
    expect([again.code, errorCode(again)]).toEqual([7, 'HOME_EXISTS'])
    rmSync(join(folder, 'two.ca'), { recursive: true })
    const taken = await init()
    expect([taken.code, errorCode(taken)]).toEqual([7, 'HOME_EXISTS'])
    expect(readFileSync(root)).toEqual(before)
    expect(existsSync(join(folder, 'two.ca', 'keys'))).toBe(false)
  })

  test('keeps the root’s key apart, and the registry runs without it', async () => {
    const data = join(folder, 'three.db')
    const root = join(folder, 'three-root.json')
    value(await run(['registry', 'init', '--data', data, '--offline-root', root, '--json']))
    expect(statSync(root).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(folder, 'three.ca', 'keys'))).not.toContain('root.key')
    const renew = () => run(['registry', 'root-list', '--data', data, '--root', root, '--json'])
    expect(value(await renew())).toHaveProperty('next_update')
    const foreign = join(folder, 'three-other.json')
    value(
      await run(['registry', 'init', '--data', join(folder, 'o.db'), '--offline-root', foreign, '--json']),
    )
    const refused = await run(['registry', 'root-list', '--data', data, '--root', foreign, '--json'])
    expect([refused.code, errorCode(refused)]).toEqual([7, 'HOME_DAMAGED'])
    rmSync(root)
    const { url } = await serve(data)
    const client = new HttpRegistryClient(String(url), identityOf(await agentHome('reader', String(url))), {
      now: Date.now,
      random: systemRandom,
    })
    const trusted = openTrustDocument(await client.trust(), { now: Date.now() })
    // Nobody has to bring the root's key back for its list within the year.
    const list = await client.crl(trusted.root.keyId)
    expect(list.nextUpdate).toBeGreaterThan(Date.now() + 365 * 86_400_000)
    expect(list.number).toBe(2)
  })

  test('seals the keys under a passphrase that the registry then needs', async () => {
    const data = join(folder, 'four.db')
    const env = { AGENTMESH_CA_PASSPHRASE: 'a long one' }
    expect(value(await run(['registry', 'init', '--data', data, '--json'], env))['keys']).toBe('passphrase')
    const options = ['registry', '--port', '0', '--data', data, '--json']
    const without = await run(options, { DATABASE_URL: '' })
    expect([without.code, errorCode(without)]).toEqual([7, 'PASSPHRASE_REQUIRED'])
    const wrong = await run(options, { DATABASE_URL: '', AGENTMESH_CA_PASSPHRASE: 'another' })
    expect([wrong.code, errorCode(wrong)]).toEqual([7, 'PASSPHRASE_WRONG'])
    expect(await serve(data, [], env)).toHaveProperty('fingerprint')
  })

  test('refuses a folder that it is told and that holds none', async () => {
    const refused = await run(
      ['registry', '--port', '0', '--data', join(folder, 'five.db'), '--ca', join(folder, 'none'), '--json'],
      { DATABASE_URL: '' },
    )
    expect([refused.code, errorCode(refused)]).toEqual([7, 'HOME_EMPTY'])
  })
})

async function agentHome(name: string, registry: string): Promise<string> {
  const home = join(folder, name)
  const options = ['--registry', registry, '--relay', 'ws://127.0.0.1:9', '--name', name]
  value(await run(['init', '--home', home, ...options, '--json']))
  return home
}

const identityOf = (home: string) => openIdentity(Home.open(home))

/** As its daemon does. */
async function register(home: string, registry: string): Promise<HttpRegistryClient> {
  const identity = identityOf(home)
  const client = new HttpRegistryClient(registry, identity, { now: Date.now, random: systemRandom })
  const now = Date.now()
  await client.register(
    signRegistration(identity, {
      exchange_key: makeExchangeKey(identity, { startId: 1, sequence: 1, random: systemRandom, now }).record,
      capabilities: [],
      relay_endpoint: 'ws://127.0.0.1:9',
      sequence: 1,
      created_at: formatTimestamp(now),
    }),
  )
  return client
}

describe('org', () => {
  let one: DnsServer
  let two: DnsServer
  let url: string
  let acme: string
  let fleet: string
  let client: HttpRegistryClient

  beforeAll(async () => {
    one = await DnsServer.start()
    two = await DnsServer.start()
    const data = join(folder, 'org.db')
    value(await run(['registry', 'init', '--data', data, '--json']))
    const resolvers = ['--dns-resolver', one.address, '--dns-resolver', two.address]
    url = String((await serve(data, resolvers))['url'])
    acme = await agentHome('acme', url)
    fleet = await agentHome('fleet', url)
    await register(acme, url)
    client = await register(fleet, url)
  })
  afterAll(async () => {
    await stopAll()
    await one.close()
    await two.close()
  })
  const org = (home: string, ...args: string[]) => run(['org', ...args, '--home', home, '--json'])

  test('proves its domain, certifies an agent from its request, and revokes it', async () => {
    const unproved = await org(acme, 'issue', identityOf(fleet).amid)
    expect(errorCode(unproved)).toBe('ORGANIZATION_UNKNOWN')
    const plain = await run(['org', 'register', 'acme.example', '--name', 'Acme', '--home', acme])
    const [, host = '', text = ''] = /^(\S+)\. TXT "([^"]+)"$/m.exec(plain.stdout) ?? []
    expect(host).toBe('_agentmesh.acme.example')
    expect(errorCode(await org(acme, 'verify'))).toBe('DOMAIN_PROOF_MISSING')
    for (const server of [one, two]) server.set(host, text)
    expect(value(await org(acme, 'verify'))).toMatchObject({ status: 'verified', domain: 'acme.example' })

    const request = join(folder, 'request.json')
    writeFileSync(request, (await org(fleet, 'request')).stdout)
    const { amid } = identityOf(fleet)
    const issue = ['issue', amid, '--role', 'support', '--request', request]
    const issued = value(await org(acme, ...issue))
    expect(issued['chain']).toHaveLength(2)
    await client.submitCertificate(issued['chain'] as string[])
    expect(await client.lookup(amid)).toMatchObject({ tier: 1.5, organization: 'Acme (acme.example)' })
    const listed = (await org(acme, 'list')).stdout
    expect(JSON.parse(listed)).toMatchObject([
      { amid, role: 'support', display_name: 'fleet', state: 'good' },
    ])

    const out = join(folder, 'issued.json')
    value(await org(acme, 'issue', amid, '--out', out))
    expect(errorCode(await org(acme, 'join', out))).toBe('NOT_OWNER')
    expect(value(await org(fleet, 'join', out))['proof']).toHaveProperty('tree_head')
    const foreign = await org(acme, 'issue', identityOf(acme).amid, '--request', request)
    expect(errorCode(foreign)).toBe('AMID_MISMATCH')

    expect(value(await org(acme, 'revoke', amid, '--reason', 'affiliationChanged'))['revoked']).toHaveLength(
      2,
    )
    expect(await client.lookup(amid)).toMatchObject({ tier: 2 })
    const list = await client.crl(Buffer.from(identityKeyId(acme)).toString('hex'))
    expect([...list.entries.values()].map(({ reason }) => reason)).toEqual([
      'affiliationChanged',
      'affiliationChanged',
    ])
    expect(errorCode(await org(acme, 'revoke', amid, '--reason', 'unspecified'))).toBe('NOT_FOUND')
    expect(value(await org(acme, 'crl'))).toMatchObject({ number: 3, entries: 2 })
  })

  test('issues while the registry is away', async () => {
    const request = join(folder, 'request.json')
    writeFileSync(request, (await org(fleet, 'request')).stdout)
    await stopAll()
    const issued = await org(acme, 'issue', identityOf(fleet).amid, '--request', request)
    expect(value(issued)['chain']).toHaveLength(2)
    const asked = await org(acme, 'issue', identityOf(fleet).amid)
    expect(errorCode(asked)).toBe('REGISTRY_UNREACHABLE')
  })
})

function identityKeyId(home: string): Uint8Array {
  return amidToBytes(identityOf(home).amid)
}
