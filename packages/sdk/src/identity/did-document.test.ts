import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { ed25519KeyPair, x25519KeyPair } from '../crypto/signing.ts'
import { DidDocument, fromHex, toBase58, validate } from '../wire/index.ts'
import { didDocument, fromMultikey, toMultikey } from './did-document.ts'
import { outcome } from '../wire/test-support.ts'
import { testIdentity, testRegistration } from './test-support.ts'

/** did:key test vectors (W3C CCG did:key 0.7, Ed25519 with derived X25519): 32-byte seeds that count up from zero. */
const PUBLISHED = [
  {
    seed: '00'.repeat(32),
    ed25519: 'z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp',
    x25519: 'z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW',
  },
  {
    seed: '00'.repeat(31) + '01',
    ed25519: 'z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG',
    x25519: 'z6LSrHyXiPBhUbvPUtyUCdf32sniiMGPTAesgHrtEa4FePtr',
  },
]

describe('multikey text', () => {
  it.each(PUBLISHED)('agrees with the did:key example $ed25519', ({ seed, ed25519, x25519 }) => {
    const signing = ed25519KeyPair(fromHex(seed)).publicKey
    expect(toMultikey('ed25519', signing)).toBe(ed25519)
    expect(fromMultikey('ed25519', ed25519)).toEqual(signing)

    // did:key derives the agreement key: SHA-512 of the seed, first half (RFC 8032 5.1.5).
    const secret = createHash('sha512').update(fromHex(seed)).digest().subarray(0, 32)
    const agreement = x25519KeyPair(new Uint8Array(secret)).publicKey
    expect(toMultikey('x25519', agreement)).toBe(x25519)
    expect(fromMultikey('x25519', x25519)).toEqual(agreement)
  })

  it.each([
    ['the other algorithm', PUBLISHED[0]!.x25519],
    ['another multibase', `u${PUBLISHED[0]!.ed25519.slice(1)}`],
    ['a look-alike', PUBLISHED[0]!.ed25519.replace('1', 'l')],
    ['a code without its second byte', `z${toBase58(Uint8Array.of(0xed, ...new Uint8Array(33)))}`],
    ['a key of 31 bytes', `z${toBase58(Uint8Array.of(0xed, 1, ...new Uint8Array(31)))}`],
    ['a key of 33 bytes', `z${toBase58(Uint8Array.of(0xed, 1, ...new Uint8Array(33)))}`],
    ['a very long text', `z${'1'.repeat(100_000)}`],
    ['nothing', ''],
  ])('refuses %s', (_name, text) => {
    expect(outcome(() => fromMultikey('ed25519', text))).toBe('INVALID_KEY')
  })
})

describe('a DID document', () => {
  const alice = testIdentity('alice')
  const registration = testRegistration(alice)
  const document = didDocument(registration)

  it('is valid and names its subject everywhere', () => {
    expect(outcome(() => validate(DidDocument, document))).toBe('ok')
    expect(document.id).toBe(`did:agentmesh:${alice.amid}`)
    expect(document.verificationMethod[0]).toMatchObject({
      id: `${document.id}#signing-key`,
      controller: document.id,
    })
    expect(document.service[0]!.serviceEndpoint).toBe(registration.relay_endpoint)
  })

  it('holds the keys of the record', () => {
    const signing = fromMultikey('ed25519', document.verificationMethod[0]!.publicKeyMultibase)
    expect(signing).toEqual(alice.signing.publicKey)
    const exchange = fromMultikey('x25519', document.keyAgreement[0]!.publicKeyMultibase)
    expect(Buffer.from(exchange).toString('base64')).toBe(
      registration.public_keys.exchange_key.key.slice('x25519:'.length),
    )
  })
})
