import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sign, verify } from '../crypto/signing.ts'
import { formatKey, parseKey, utf8Bytes } from '../wire/index.ts'
import { Home } from './home.ts'
import { createIdentity, openIdentity, readPublicIdentity, writeExchangePublicKey } from './home-identity.ts'
import { recoveryKeyPair } from './recovery.ts'
import { outcome } from '../wire/test-support.ts'
import { NOW, testKeys, testRandom } from './test-support.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'agentmesh-keys-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function newHome(name: string, passphrase?: string) {
  const home = Home.create(join(root, name))
  const made = createIdentity(home, {
    random: testRandom(name),
    now: NOW,
    framework: 'openclaw',
    frameworkVersion: '0.4.2',
    ...(passphrase === undefined ? {} : { passphrase }),
  })
  return { home, ...made, key: (file: string) => join(home.path, 'keys', file) }
}

describe('the identity of a home', () => {
  it('is the same when opened again', () => {
    const { home, identity } = newHome('a')
    const opened = openIdentity(Home.open(home.path))
    expect(opened).toEqual(identity)
    const signature = sign('record', opened.signing.secretKey, utf8Bytes('x'))
    expect(verify('record', identity.signing.publicKey, signature, utf8Bytes('x'))).toBe(true)
    expect(opened.storageKey).toHaveLength(32)
  })

  it('is published as the object of the specification', () => {
    const { home, identity, recoveryWords } = newHome('a')
    expect(JSON.parse(readFileSync(join(home.path, 'keys/identity.json'), 'utf8'))).toEqual({
      amid: identity.amid,
      signing_public_key: formatKey('ed25519', identity.signing.publicKey),
      recovery_public_key: formatKey('ed25519', recoveryKeyPair(recoveryWords).publicKey),
      created_at: '2026-02-01T12:00:00.000Z',
      framework: 'openclaw',
      framework_version: '0.4.2',
    })
  })

  it('shows the exchange key once there is one', () => {
    const { home, identity } = newHome('a')
    const exchange = parseKey('x25519', testKeys(identity).exchange.record.key)
    writeExchangePublicKey(home, exchange)
    expect(readPublicIdentity(home).exchange_public_key).toBe(formatKey('x25519', exchange))
    expect(openIdentity(home)).toEqual(identity)
    expect(statSync(join(home.path, 'keys/identity.json')).mode & 0o777).toBe(0o600)
  })

  it('keeps no secret in clear but the owner key, and the recovery key not at all', () => {
    const { identity, recoveryWords, key } = newHome('a')
    const seed = identity.signing.secretKey.subarray(0, 32)
    const recovery = recoveryKeyPair(recoveryWords)
    for (const file of ['identity.json', 'owner.key', 'signing.key']) {
      const bytes = readFileSync(key(file))
      expect(statSync(key(file)).mode & 0o777).toBe(0o600)
      for (const secret of [seed, recovery.secretKey.subarray(0, 32), identity.storageKey]) {
        expect(bytes.includes(Buffer.from(secret))).toBe(false)
        expect(bytes.includes(Buffer.from(secret).toString('base64').slice(0, 40))).toBe(false)
      }
    }
  })

  it('is never overwritten', () => {
    const { home } = newHome('a')
    const sealed = readFileSync(join(home.path, 'keys/signing.key'))
    const again = () => createIdentity(home, { random: testRandom('b'), now: NOW })
    expect(outcome(again)).toBe('HOME_EXISTS')
    unlinkSync(join(home.path, 'keys/identity.json'))
    expect(outcome(again)).toBe('HOME_EXISTS')
    expect(readFileSync(join(home.path, 'keys/signing.key'))).toEqual(sealed)
  })

  it('is missing from an empty home, and from one whose init was cut short', () => {
    const home = Home.create(join(root, 'empty'))
    expect(outcome(() => openIdentity(home))).toBe('HOME_EMPTY')
    mkdirSync(join(home.path, '.new-0011223344556677'), { mode: 0o700 })
    writeFileSync(join(home.path, '.new-0011223344556677/owner.key'), 'half', { mode: 0o600 })
    expect(outcome(() => openIdentity(home))).toBe('HOME_EMPTY')
    expect(outcome(() => createIdentity(home, { random: testRandom('x'), now: NOW }))).toBe('ok')
  })

  it.each(['identity.json', 'owner.key', 'signing.key'])(
    'is refused when %s is cut short, empty or gone',
    (file) => {
      const { home, key } = newHome('a')
      // Without its last byte, a newline, a JSON file is still whole; without the two last it is not.
      const size = statSync(key(file)).size
      for (const length of [size - 2, Math.floor(size / 2), 1, 0]) {
        truncateSync(key(file), length)
        expect(outcome(() => openIdentity(home))).toBe('HOME_DAMAGED')
      }
      unlinkSync(key(file))
      expect(outcome(() => openIdentity(home))).toBe('HOME_DAMAGED')
    },
  )

  it("is refused when a file comes from another agent's home", () => {
    const other = newHome('other')
    for (const file of ['identity.json', 'owner.key', 'signing.key']) {
      const { home, key } = newHome(`mine ${file.replace('.', '-')}`.replace(' ', '-'))
      writeFileSync(key(file), readFileSync(other.key(file)))
      expect(outcome(() => openIdentity(home))).toBe('HOME_DAMAGED')
    }
  })

  it('is refused when any bit of the sealed key is changed', () => {
    const { home, key } = newHome('a')
    const whole = readFileSync(key('signing.key'))
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at] = changed[at]! ^ 1
      writeFileSync(key('signing.key'), changed)
      expect(outcome(() => openIdentity(home))).toBe('HOME_DAMAGED')
    }
  })

  it('is refused when others can read a key file or the folder of keys', () => {
    const { home, key } = newHome('a')
    chmodSync(key('signing.key'), 0o604)
    expect(outcome(() => openIdentity(home))).toBe('HOME_UNSAFE')
    chmodSync(key('signing.key'), 0o600)
    chmodSync(join(home.path, 'keys'), 0o711)
    expect(outcome(() => openIdentity(home))).toBe('HOME_UNSAFE')
  })
})

describe('a passphrase', () => {
  it('opens the keys, and nothing else does', () => {
    const { home, identity, key } = newHome('p', 'correct horse')
    expect(openIdentity(home, { passphrase: 'correct horse' })).toEqual(identity)
    expect(outcome(() => openIdentity(home, { passphrase: 'correct  horse' }))).toBe('PASSPHRASE_WRONG')
    expect(outcome(() => openIdentity(home, { passphrase: '' }))).toBe('PASSPHRASE_WRONG')
    expect(outcome(() => openIdentity(home))).toBe('PASSPHRASE_REQUIRED')
    expect(readPublicIdentity(home).amid).toBe(identity.amid)
    expect(readFileSync(key('owner.key'), 'utf8')).toContain('"passphrase"')
  })

  it('costs no more than a bound, whatever the file asks for', () => {
    const { home, key } = newHome('p', 'x')
    const file = JSON.parse(readFileSync(key('owner.key'), 'utf8'))
    for (const change of [{ ops: 1_000_000 }, { memory: 2 ** 40 }, { ops: 0 }, { memory: 1 }]) {
      writeFileSync(key('owner.key'), JSON.stringify({ ...file, ...change }))
      expect(outcome(() => openIdentity(home, { passphrase: 'x' }))).toBe('HOME_DAMAGED')
    }
  })

  it('cannot be taken off by editing the file', () => {
    const { home, key } = newHome('p', 'x')
    const forged = { version: 1, protection: 'file', key: Buffer.alloc(32).toString('base64') }
    writeFileSync(key('owner.key'), JSON.stringify(forged))
    expect(outcome(() => openIdentity(home))).toBe('HOME_DAMAGED')
  })
})
