import { entropyToMnemonic } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, sign } from '../crypto/signing.ts'
import { formatKey, fromHex, toBase64, unsignedBytes } from '../wire/index.ts'
import { newRecoveryWords, recoveryKeyPair, signSuccession, verifySuccession } from './recovery.ts'
import { outcome } from '../wire/test-support.ts'
import { NOW, testIdentity, testRandom } from './test-support.ts'

const words = newRecoveryWords(testRandom('recovery'))
const recovery = recoveryKeyPair(words)
const [oldAgent, newAgent, mallory] = ['old', 'new', 'mallory'].map(testIdentity)

function thrown(call: () => unknown): Error {
  try {
    call()
  } catch (error) {
    return error as Error
  }
  throw new Error('The call succeeded')
}

describe('recovery words', () => {
  it('are 24 words of the BIP-39 list', () => {
    expect(words.split(' ')).toHaveLength(24)
    expect(words.split(' ').every((word) => wordlist.includes(word))).toBe(true)
  })

  it('agree with the published BIP-39 vector for 32 bytes', () => {
    const published =
      'legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful ' +
      'legal winner thank year wave sausage worth title'
    expect(newRecoveryWords((length) => new Uint8Array(length).fill(0x7f))).toBe(published)
  })

  it('give the same key however they are typed', () => {
    expect(recoveryKeyPair(`  ${words.toUpperCase().replaceAll(' ', '\n\t')} `)).toEqual(recovery)
  })

  it('differ with every home', () => {
    expect(recoveryKeyPair(newRecoveryWords(testRandom('other'))).publicKey).not.toEqual(recovery.publicKey)
  })

  it('do not give the entropy itself as a seed', () => {
    const entropy = fromHex('7f'.repeat(32))
    const made = recoveryKeyPair(entropyToMnemonic(entropy, wordlist))
    expect(made.publicKey).not.toEqual(ed25519KeyPair(entropy).publicKey)
  })

  const list = words.split(' ')
  it.each([
    ['23 words', list.slice(1).join(' ')],
    ['12 words with a good checksum', entropyToMnemonic(new Uint8Array(16), wordlist)],
    ['two words exchanged', [list[1], list[0], ...list.slice(2)].join(' ')],
    ['an unknown word', ['agentmesh', ...list.slice(1)].join(' ')],
    ['nothing', ''],
  ])('refuse %s, and keep the words out of the error', (_name, text) => {
    expect(outcome(() => recoveryKeyPair(text))).toBe('RECOVERY_WORDS_INVALID')
    const error = thrown(() => recoveryKeyPair(text))
    const shown = `${error.message} ${JSON.stringify(error.cause)}`
    expect(text.split(' ').filter((word) => word.length > 5 && shown.includes(word))).toEqual([])
  })
})

describe('a succession statement', () => {
  const statement = signSuccession(recovery, oldAgent!.amid, newAgent!.amid, NOW)
  const check = (raw: unknown, now = NOW) => outcome(() => verifySuccession(raw, recovery.publicKey, now))

  it('is believed under the recovery key seen first', () => {
    expect(verifySuccession(statement, recovery.publicKey, NOW)).toEqual(statement)
  })

  it.each([
    ['successor', { new_amid: mallory!.amid }],
    ['predecessor', { old_amid: mallory!.amid }],
    ['date', { created_at: '2026-01-01T00:00:00.000Z' }],
    ['unknown field', { note: 'x' }],
  ])('is refused with another %s', (_name, change) => {
    expect(check({ ...statement, ...change })).toBe('INVALID_SIGNATURE')
  })

  it("is refused from a thief's recovery key, under his name or ours", () => {
    const thief = recoveryKeyPair(newRecoveryWords(testRandom('thief')))
    const forged = signSuccession(thief, oldAgent!.amid, mallory!.amid, NOW)
    expect(check(forged)).toBe('INVALID_SIGNATURE')
    const relabelled = { ...forged, recovery_public_key: formatKey('ed25519', recovery.publicKey) }
    expect(check(relabelled)).toBe('INVALID_SIGNATURE')
  })

  it('is refused when the stolen signing key signed it', () => {
    const forged = signSuccession(oldAgent!.signing, oldAgent!.amid, mallory!.amid, NOW)
    expect(check(forged)).toBe('INVALID_SIGNATURE')
  })

  it('is refused when it names another recovery key than the one that signed it', () => {
    const named = {
      ...statement,
      recovery_public_key: formatKey('ed25519', mallory!.signing.publicKey),
    }
    const signature = toBase64(sign('succession', recovery.secretKey, unsignedBytes(named)))
    expect(check({ ...named, signature })).toBe('INVALID_SIGNATURE')
  })

  it('is refused under another label', () => {
    const signature = toBase64(sign('record', recovery.secretKey, unsignedBytes(statement)))
    expect(check({ ...statement, signature })).toBe('INVALID_SIGNATURE')
  })

  it('is refused from the future, and cannot point at itself', () => {
    expect(check(statement, NOW - 301_000)).toBe('MALFORMED')
    expect(outcome(() => signSuccession(recovery, oldAgent!.amid, oldAgent!.amid, NOW))).toBe('MALFORMED')
  })
})
