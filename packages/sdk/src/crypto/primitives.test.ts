import { argon2id as nobleArgon2id } from '@noble/hashes/argon2.js'
import { shake128 } from '@noble/hashes/sha3.js'
import sodium from 'libsodium-wrappers-sumo'
import { describe, expect, it } from 'vitest'
import * as primitives from './primitives.ts'
import { concatBytes, ed25519KeyPair, ed25519SignRaw, ed25519VerifyRaw } from './primitives.ts'
import { flipBit, seededRandom } from './test-support.ts'

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const ascii = (text: string) => new Uint8Array(Buffer.from(text, 'ascii'))
const bytesFrom = (first: number, count: number) => Uint8Array.from({ length: count }, (_, n) => first + n)

describe('SHA-256 (FIPS 180-4)', () => {
  it.each([
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
    ],
    ['a'.repeat(1_000_000), 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'],
  ])('hashes the published message %#', (message, digest) => {
    expect(toHex(primitives.sha256(ascii(message)))).toBe(digest)
  })

  it('hashes parts as their concatenation', () => {
    expect(primitives.sha256(ascii('a'), ascii(''), ascii('bc'))).toEqual(primitives.sha256(ascii('abc')))
  })
})

describe('HMAC-SHA-256 (RFC 4231)', () => {
  const long =
    'This is a test using a larger than block-size key and a larger than block-size data. ' +
    'The key needs to be hashed before being used by the HMAC algorithm.'
  it.each([
    [
      '4.2',
      new Uint8Array(20).fill(0x0b),
      ascii('Hi There'),
      'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
    ],
    [
      '4.3',
      ascii('Jefe'),
      ascii('what do ya want for nothing?'),
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
    [
      '4.4',
      new Uint8Array(20).fill(0xaa),
      new Uint8Array(50).fill(0xdd),
      '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe',
    ],
    [
      '4.5',
      bytesFrom(1, 25),
      new Uint8Array(50).fill(0xcd),
      '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b',
    ],
    [
      '4.7',
      new Uint8Array(131).fill(0xaa),
      ascii('Test Using Larger Than Block-Size Key - Hash Key First'),
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
    [
      '4.8',
      new Uint8Array(131).fill(0xaa),
      ascii(long),
      '9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2',
    ],
  ])('gives the tag of test case %s', (_, key, data, tag) => {
    expect(toHex(primitives.hmacSha256(key, data))).toBe(tag)
    expect(toHex(primitives.hmacSha256(key, data.subarray(0, 3), data.subarray(3)))).toBe(tag)
  })

  it('agrees with zero padding of a short key to 32 bytes, where the code takes another path', () => {
    const padded = new Uint8Array(32)
    padded.set(ascii('Jefe'))
    expect(primitives.hmacSha256(padded, ascii('x'))).toEqual(
      primitives.hmacSha256(ascii('Jefe'), ascii('x')),
    )
  })
})

describe('HKDF-SHA-256 (RFC 5869)', () => {
  it.each([
    [
      'A.1',
      new Uint8Array(22).fill(0x0b),
      bytesFrom(0, 13),
      bytesFrom(0xf0, 10),
      42,
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    ],
    [
      'A.2',
      bytesFrom(0x00, 80),
      bytesFrom(0x60, 80),
      bytesFrom(0xb0, 80),
      82,
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
    ],
    [
      'A.3',
      new Uint8Array(22).fill(0x0b),
      new Uint8Array(0),
      new Uint8Array(0),
      42,
      '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    ],
  ] as const)('gives the output of test case %s', (_, ikm, salt, info, length, okm) => {
    expect(toHex(primitives.hkdfSha256(ikm, salt, info, length))).toBe(okm)
  })

  it('expands the pseudorandom key of test case A.1', () => {
    const prk = hex('077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5')
    expect(toHex(primitives.hkdfExpandSha256(prk, bytesFrom(0xf0, 10), 42))).toBe(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    )
  })

  it('gives 255 blocks and refuses one byte more (RFC 5869 2.3)', () => {
    const key = new Uint8Array(32)
    expect(primitives.hkdfExpandSha256(key, key, 8160)).toHaveLength(8160)
    expect(() => primitives.hkdfExpandSha256(key, key, 8161)).toThrow(
      expect.objectContaining({ code: 'MALFORMED' }),
    )
  })
})

describe('X25519 (RFC 7748)', () => {
  it.each([
    [
      'a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4',
      'e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c',
      'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552',
    ],
    [
      '4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d',
      'e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493',
      '95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957',
    ],
  ])('5.2: multiplies the published point %#', (scalar, point, product) => {
    expect(toHex(primitives.x25519(hex(scalar), hex(point)))).toBe(product)
  })

  it('5.2: iterates a thousand times', () => {
    let k = hex('09'.padEnd(64, '0'))
    let u = k
    let once = ''
    for (let n = 0; n < 1000; n++) {
      const product = primitives.x25519(k, u)
      u = k
      k = new Uint8Array(product)
      once ||= toHex(k)
    }
    expect(once).toBe('422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079')
    expect(toHex(k)).toBe('684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51')
  })

  it('6.1: agrees on the published secret from both sides', () => {
    const alice = primitives.x25519KeyPair(
      hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a'),
    )
    const bob = primitives.x25519KeyPair(
      hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'),
    )
    expect(toHex(alice.publicKey)).toBe('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a')
    expect(toHex(bob.publicKey)).toBe('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f')
    const secret = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742'
    expect(toHex(primitives.x25519(alice.secretKey, bob.publicKey))).toBe(secret)
    expect(toHex(primitives.x25519(bob.secretKey, alice.publicKey))).toBe(secret)
  })

  it.each([
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  ])('6.1: refuses the all-zero secret that %s forces', (point) => {
    expect(() => primitives.x25519(new Uint8Array(32).fill(7), hex(point))).toThrow(
      expect.objectContaining({ code: 'WEAK_SHARED_SECRET' }),
    )
  })

  it('refuses keys of a wrong length', () => {
    const key = new Uint8Array(32).fill(7)
    for (const wrong of [new Uint8Array(31), new Uint8Array(33), new Uint8Array(0)]) {
      for (const call of [
        () => primitives.x25519(wrong, key),
        () => primitives.x25519(key, wrong),
        () => primitives.x25519KeyPair(wrong),
        () => primitives.ed25519KeyPair(wrong),
        () => primitives.kemKeyPair(wrong),
        () => primitives.kemEncapsulate(wrong, key),
        () => primitives.kemDecapsulate(wrong, key),
        () => primitives.aeadEncrypt(wrong, new Uint8Array(24), key, key),
      ]) {
        expect(call).toThrow(expect.objectContaining({ code: 'INVALID_KEY' }))
      }
    }
  })
})

const RFC_8032_VECTORS = [
  [
    'TEST 1',
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    'TEST 2',
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'TEST 3',
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
  [
    'TEST SHA(abc)',
    '833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42',
    'ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf',
    'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
    'dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704',
  ],
] as const

describe('Ed25519 (RFC 8032 7.1)', () => {
  it.each(RFC_8032_VECTORS)('%s: derives, signs and verifies', (_, seed, publicKey, message, signature) => {
    const pair = ed25519KeyPair(hex(seed))
    expect(toHex(pair.publicKey)).toBe(publicKey)
    expect(toHex(ed25519SignRaw(pair.secretKey, hex(message)))).toBe(signature)
    expect(ed25519VerifyRaw(pair.publicKey, hex(signature), hex(message))).toBe(true)
    expect(primitives.isValidEd25519PublicKey(pair.publicKey)).toBe(true)
  })

  it('refuses a signature, message or key with any bit flipped', () => {
    const [, seed, , message, signature] = RFC_8032_VECTORS[2]
    const { publicKey } = ed25519KeyPair(hex(seed))
    for (let bit = 0; bit < 512; bit++) {
      expect(ed25519VerifyRaw(publicKey, flipBit(hex(signature), bit), hex(message))).toBe(false)
    }
    for (let bit = 0; bit < 16; bit++) {
      expect(ed25519VerifyRaw(publicKey, hex(signature), flipBit(hex(message), bit))).toBe(false)
    }
    for (let bit = 0; bit < 256; bit++) {
      expect(ed25519VerifyRaw(flipBit(publicKey, bit), hex(signature), hex(message))).toBe(false)
    }
  })
})

/** The eight points whose order divides 8, in their canonical encodings. */
const SMALL_ORDER = [
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000000000000000000000000000000000000000000000000080',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
] as const

/** Other encodings of those points: y + p, or a sign bit where x is zero. */
const NON_CANONICAL_SMALL_ORDER = [
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  '0100000000000000000000000000000000000000000000000000000000000080',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
] as const

describe('forged Ed25519 signatures', () => {
  it.each([...SMALL_ORDER, ...NON_CANONICAL_SMALL_ORDER])(
    'refuses the small-order key %s and every signature made of small-order points under it',
    (key) => {
      expect(primitives.isValidEd25519PublicKey(hex(key))).toBe(false)
      for (const r of [...SMALL_ORDER, ...NON_CANONICAL_SMALL_ORDER]) {
        // With S = 0 a lax verifier needs only R + hA = 0: one message in eight, or any if A is the identity.
        for (let message = 0; message < 16; message++) {
          const forged = concatBytes(hex(r), new Uint8Array(32))
          expect(ed25519VerifyRaw(hex(key), forged, Uint8Array.of(message))).toBe(false)
        }
      }
    },
  )

  it('refuses S that is not reduced: S + L verifies the same equation (RFC 8032 5.1.7)', () => {
    const order = 2n ** 252n + 27742317777372353535851937790883648493n
    for (const [, , publicKey, message, signature] of RFC_8032_VECTORS) {
      let s = BigInt(`0x${toHex(hex(signature).subarray(32).toReversed())}`)
      for (s += order; s < 2n ** 256n; s += order) {
        const malleable = hex(s.toString(16).padStart(64, '0')).toReversed()
        const forged = concatBytes(hex(signature).subarray(0, 32), malleable)
        expect(ed25519VerifyRaw(hex(publicKey), forged, hex(message))).toBe(false)
      }
    }
  })

  it('refuses every encoding y + p, among them those of points on the curve (RFC 8032 5.1.3)', () => {
    const onCurve = (key: Uint8Array) => {
      try {
        return sodium.crypto_core_ed25519_add(key, hex(SMALL_ORDER[0])).length === 32
      } catch {
        return false
      }
    }
    const points: number[] = []
    for (let y = 0; y < 19; y++) {
      for (const sign of [0x00, 0x80]) {
        const canonical = new Uint8Array(32)
        canonical.set([y], 0)
        canonical.set([sign], 31)
        if (onCurve(canonical)) points.push(y)
        const shifted = new Uint8Array(32).fill(0xff)
        shifted.set([0xed + y], 0)
        shifted.set([0x7f | sign], 31)
        expect(primitives.isValidEd25519PublicKey(shifted)).toBe(false)
      }
    }
    expect(points.length).toBeGreaterThan(4)
  })

  it('refuses a key of mixed order, on which verifiers disagree', () => {
    const { publicKey } = ed25519KeyPair(new Uint8Array(32).fill(9))
    for (const point of SMALL_ORDER.slice(1)) {
      expect(primitives.isValidEd25519PublicKey(sodium.crypto_core_ed25519_add(publicKey, hex(point)))).toBe(
        false,
      )
    }
  })

  it('answers false, and does not throw, for keys and signatures of a wrong length', () => {
    const { publicKey, secretKey } = ed25519KeyPair(new Uint8Array(32).fill(9))
    const signature = ed25519SignRaw(secretKey, publicKey)
    for (const length of [0, 31, 33, 64]) {
      expect(ed25519VerifyRaw(new Uint8Array(length), signature, publicKey)).toBe(false)
      expect(primitives.isValidEd25519PublicKey(new Uint8Array(length))).toBe(false)
    }
    for (const length of [0, 63, 65]) {
      expect(ed25519VerifyRaw(publicKey, new Uint8Array(length), publicKey)).toBe(false)
    }
  })
})

describe('XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha A.3.1)', () => {
  const key = bytesFrom(0x80, 32)
  const nonce = bytesFrom(0x40, 24)
  const aad = hex('50515253c0c1c2c3c4c5c6c7')
  const plaintext = ascii(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  )
  const sealed =
    'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39' +
    'ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9' +
    '21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49'

  it('encrypts and decrypts the published text', () => {
    expect(toHex(primitives.aeadEncrypt(key, nonce, plaintext, aad))).toBe(sealed)
    expect(primitives.aeadDecrypt(key, nonce, hex(sealed), aad)).toEqual(plaintext)
  })

  it('gives null for any flipped bit, other associated data, or a text shorter than its tag', () => {
    for (let bit = 0; bit < sealed.length * 4; bit++) {
      expect(primitives.aeadDecrypt(key, nonce, flipBit(hex(sealed), bit), aad)).toBeNull()
    }
    expect(primitives.aeadDecrypt(key, nonce, hex(sealed), new Uint8Array(0))).toBeNull()
    expect(primitives.aeadDecrypt(key, nonce, new Uint8Array(15), aad)).toBeNull()
  })
})

describe('Argon2id (RFC 9106)', () => {
  it('5.3: the second implementation, which this test leans on, gives the published tag', () => {
    const tag = nobleArgon2id(new Uint8Array(32).fill(1), new Uint8Array(16).fill(2), {
      t: 3,
      m: 32,
      p: 4,
      key: new Uint8Array(8).fill(3),
      personalization: new Uint8Array(12).fill(4),
      dkLen: 32,
    })
    expect(toHex(tag)).toBe('0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659')
  })

  it.each([
    [1, 8],
    [3, 64],
    [2, 1024],
  ])('agrees with it at one lane, without secret and data (passes %i, KiB %i)', (ops, kib) => {
    const password = ascii('correct horse battery staple')
    const salt = bytesFrom(0x20, 16)
    expect(primitives.argon2id(password, salt, { ops, memory: kib * 1024 }, 32)).toEqual(
      nobleArgon2id(password, salt, { t: ops, m: kib, p: 1, dkLen: 32 }),
    )
  })

  it('refuses a salt of a wrong length and a cost below the minimum', () => {
    const cost = { ops: 1, memory: 8192 }
    for (const call of [
      () => primitives.argon2id(ascii('x'), new Uint8Array(8), cost, 32),
      () => primitives.argon2id(ascii('x'), new Uint8Array(16), { ops: 0, memory: 8192 }, 32),
      () => primitives.argon2id(ascii('x'), new Uint8Array(16), { ops: 1, memory: 1024 }, 32),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
    }
  })
})

describe('ML-KEM-768 (FIPS 203)', () => {
  it('gives the accumulated digest of the C2SP/CCTV test programme, 100 rounds', () => {
    const input = shake128.create()
    const output = shake128.create({ dkLen: 32 })
    for (let n = 0; n < 100; n++) {
      const pair = primitives.kemKeyPair(input.xof(64))
      const { ciphertext, sharedSecret } = primitives.kemEncapsulate(pair.publicKey, input.xof(32))
      expect(primitives.kemDecapsulate(pair.secretKey, ciphertext)).toEqual(sharedSecret)
      output.update(pair.publicKey).update(ciphertext).update(sharedSecret)
      output.update(primitives.kemDecapsulate(pair.secretKey, input.xof(1088)))
    }
    expect(toHex(output.digest())).toBe('1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415')
  })

  const random = seededRandom('ML-KEM')
  const pair = primitives.kemKeyPair(random(64))
  const coins = random(32)

  it('has the sizes of FIPS 203 table 3', () => {
    const { ciphertext, sharedSecret } = primitives.kemEncapsulate(pair.publicKey, coins)
    expect([pair.publicKey.length, pair.secretKey.length, ciphertext.length, sharedSecret.length]).toEqual([
      1184, 2400, 1088, 32,
    ])
  })

  it('rejects implicitly: a changed ciphertext gives another secret, always the same one', () => {
    const { ciphertext, sharedSecret } = primitives.kemEncapsulate(pair.publicKey, coins)
    for (const bit of [0, 4000, 8703]) {
      const changed = flipBit(ciphertext, bit)
      const other = primitives.kemDecapsulate(pair.secretKey, changed)
      expect(other).not.toEqual(sharedSecret)
      expect(primitives.kemDecapsulate(pair.secretKey, changed)).toEqual(other)
    }
  })

  it('refuses a public key with a coefficient of q or more (FIPS 203 7.2)', () => {
    const unreduced = pair.publicKey.slice()
    unreduced[0] = 0x01
    unreduced[1] = ((unreduced[1] ?? 0) & 0xf0) | 0x0d // 0xd01 = 3329 = q
    expect(() => primitives.kemEncapsulate(unreduced, coins)).toThrow(
      expect.objectContaining({ code: 'INVALID_KEY' }),
    )
  })
})

describe('equalBytes', () => {
  it('compares contents and lengths', () => {
    expect(primitives.equalBytes(ascii('abc'), ascii('abc'))).toBe(true)
    expect(primitives.equalBytes(ascii('abc'), ascii('abd'))).toBe(false)
    expect(primitives.equalBytes(ascii('abc'), ascii('ab'))).toBe(false)
    expect(primitives.equalBytes(ascii(''), ascii(''))).toBe(true)
  })
})
