/**
 * The scenarios of `test-vectors/identity/`: for each check of this layer what passes, with its result, and what a forger
 * or a careless implementation would send, with the code it must be refused with.
 */
import { ed25519KeyPair, sha256, sign } from '../crypto/signing.ts'
import { formatTimestamp, toBase58, toBase64, toHex, unsignedBytes, type SignedKey } from '../wire/index.ts'
import { didDocument, toMultikey } from './did-document.ts'
import { NOW, testBundle, testKeys, testRegistration } from './test-support.ts'
import { connectVectors, recoveryVectors, requestVectors } from './test-support-scenarios-signed.ts'
import {
  accepted,
  alice,
  alicePublicKey,
  HOUR,
  mallory,
  now,
  refused,
  type Entries,
  type IdentityVector,
} from './test-support-vectors.ts'

export function identityVectors(): ReadonlyMap<string, IdentityVector> {
  return new Map<string, IdentityVector>([
    ...amidVectors(),
    ...multikeyVectors(),
    ...keyRecordVectors(),
    ...bundleVectors(),
    ...registrationVectors(),
    ...requestVectors(),
    ...connectVectors(),
    ...recoveryVectors(),
  ])
}

function amidVectors(): Entries {
  const key = (hex: string) => ({ public_key: hex })
  const zeroSeed = ed25519KeyPair(new Uint8Array(32))
  const hash = toBase58(sha256(zeroSeed.publicKey).subarray(0, 20))
  return [
    ...accepted(
      'amid',
      '1',
      '',
      'The AMID of the key of the all-zero seed',
      key(toHex(zeroSeed.publicKey)),
      hash,
    ),
    ...accepted('amid', '1', 'second', 'The AMID of another key', key(alicePublicKey), alice.amid),
    ...refused('amid', '1', [
      ['small-order', 'INVALID_KEY', 'The identity point', key('01' + '00'.repeat(31))],
      [
        'order-8',
        'INVALID_KEY',
        'A point of order 8',
        key('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'),
      ],
      [
        'non-canonical',
        'INVALID_KEY',
        'y = p + 1, another spelling of y = 1',
        key('ee' + 'ff'.repeat(30) + '7f'),
      ],
      ['not-on-curve', 'INVALID_KEY', 'No point has y = 2', key('02' + '00'.repeat(31))],
      ['short', 'INVALID_KEY', '31 bytes', key(alicePublicKey.slice(2))],
    ]),
    ...accepted('amid-text', '1', '', 'The one spelling of an AMID', { text: alice.amid }, null),
    ...refused('amid-text', '1', [
      ['zero', 'INVALID_AMID', 'The digit 0 for the letter o', { text: `0${alice.amid.slice(1)}` }],
      ['capital-i', 'INVALID_AMID', 'A capital I for a 1', { text: `I${alice.amid.slice(1)}` }],
      ['small-l', 'INVALID_AMID', 'A small L for a 1', { text: `l${alice.amid.slice(1)}` }],
      ['leading-one', 'INVALID_AMID', 'A leading 1 adds a zero byte', { text: `1${alice.amid}` }],
      ['19-bytes', 'INVALID_AMID', '19 bytes', { text: toBase58(new Uint8Array(19).fill(7)) }],
      ['21-bytes', 'INVALID_AMID', '21 bytes', { text: toBase58(new Uint8Array(21).fill(7)) }],
      ['space', 'INVALID_AMID', 'A trailing space', { text: `${alice.amid} ` }],
      ['path', 'INVALID_AMID', 'A path', { text: '../../keys/signing.key' }],
    ]),
  ]
}

function multikeyVectors(): Entries {
  const published = { algorithm: 'ed25519', text: 'z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp' }
  const agreement = { algorithm: 'x25519', text: 'z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW' }
  const record = testRegistration(alice)
  return [
    ...accepted(
      'multikey',
      '3',
      'ed25519',
      'The signing key of the first did:key example (seed of zeros)',
      published,
      '3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29',
    ),
    ...accepted(
      'multikey',
      '3',
      'x25519',
      'The agreement key of the first did:key example',
      agreement,
      '5bf55c73b82ebe22be80f3430667af570fae2556a6415e6b30d4065300aa947d',
    ),
    ...refused('multikey', '3', [
      [
        'other-algorithm',
        'INVALID_KEY',
        'An agreement key as signing key',
        { ...agreement, algorithm: 'ed25519' },
      ],
      ['other-base', 'INVALID_KEY', 'base64url', { ...published, text: `u${published.text.slice(1)}` }],
      [
        'short-prefix',
        'INVALID_KEY',
        'The code 0xed without its second byte',
        { ...published, text: `z${toBase58(Uint8Array.of(0xed, ...alice.signing.publicKey))}` },
      ],
    ]),
    ...accepted('did-document', '3', '', 'The document of a signed record', { record }, didDocument(record)),
    ...accepted(
      'multikey',
      '3',
      'signing-key',
      'The signing key of that document',
      { algorithm: 'ed25519', text: toMultikey('ed25519', alice.signing.publicKey) },
      alicePublicKey,
    ),
  ]
}

function keyRecordVectors(): Entries {
  const keys = testKeys(alice)
  const base = { signing_public_key: alicePublicKey, now }
  const kinds = {
    ik: keys.exchange.record,
    spk: keys.signed.record,
    opk: testKeys(alice).oneTime[0]?.record,
    'pq-last': keys.lastResort.record,
    'pq-one': keys.oneTimeKem[0]?.record,
  }
  const spk = keys.signed.record
  const resigned = (changes: object, signer = alice, label: SignedKey['kind'] = 'spk') => {
    const changed = JSON.parse(JSON.stringify({ ...spk, ...changes })) as SignedKey
    const signature = sign(label, signer.signing.secretKey, unsignedBytes(changed))
    return { ...base, kind: changed.kind, record: { ...changed, signature: toBase64(signature) } }
  }
  const valid = Object.entries(kinds).flatMap(([kind, record]) =>
    accepted('key-record', '4', kind, `A key of kind ${kind}`, { ...base, kind, record }, record?.key),
  )
  return [
    ...valid,
    ...accepted(
      'key-record',
      '4',
      'unknown-field',
      'An unknown field is covered by the signature and passes',
      resigned({ hint: { later: [1, 'ü'] } }),
      spk.key,
    ),
    ...refused('key-record', '4', [
      ['changed-id', 'INVALID_SIGNATURE', 'Another id', { ...base, kind: 'spk', record: { ...spk, id: 2 } }],
      [
        'changed-sequence',
        'INVALID_SIGNATURE',
        'Another sequence number',
        { ...base, kind: 'spk', record: { ...spk, sequence: 2 } },
      ],
      [
        'changed-versions',
        'INVALID_SIGNATURE',
        'Another version list: a downgrade',
        { ...base, kind: 'spk', record: { ...spk, versions: ['agentmesh/0.1'] } },
      ],
      [
        'added-field',
        'INVALID_SIGNATURE',
        'A field added later',
        { ...base, kind: 'spk', record: { ...spk, x: 1 } },
      ],
      ['other-signer', 'INVALID_SIGNATURE', 'Signed by somebody else', resigned({}, mallory)],
      ['other-label', 'INVALID_SIGNATURE', 'Signed under the label opk', resigned({}, alice, 'opk')],
      ['other-amid', 'AMID_MISMATCH', "Somebody else's AMID", resigned({ amid: mallory.amid })],
      ['other-kind', 'MALFORMED', 'A prekey as exchange key', { ...base, kind: 'ik', record: spk }],
      ['no-versions', 'MALFORMED', 'A signed prekey without versions', resigned({ versions: undefined })],
      ['sequence-zero', 'MALFORMED', 'Sequence numbers begin with 1', resigned({ sequence: 0 })],
      [
        'kem-in-x25519-slot',
        'INVALID_KEY',
        'An ML-KEM key in a signed prekey',
        resigned({ key: keys.lastResort.record.key }),
      ],
      ['expired', 'KEY_EXPIRED', 'At its expiry', { ...base, kind: 'spk', record: spk, now: spk.expires_at }],
      [
        'future',
        'KEY_EXPIRED',
        'Created more than 300 seconds ahead',
        { ...base, kind: 'spk', record: spk, now: formatTimestamp(NOW - HOUR) },
      ],
    ]),
  ]
}

function bundleVectors(): Entries {
  const bundle = testBundle(alice)
  const forged = testBundle(mallory)
  const base = { expected_amid: alice.amid, now, bundle }
  const { one_time_prekey: _none, ...without } = bundle
  const lastResort = { ...without, kem_prekey: testKeys(alice).lastResort.record }
  return [
    ...accepted('bundle', '5', '', 'All kinds of keys', base, { kem_kind: 'one-time', one_time_prekey: 1 }),
    ...accepted(
      'bundle',
      '5',
      'last-resort',
      'No one-time keys were left',
      { ...base, bundle: lastResort },
      { kem_kind: 'last-resort', one_time_prekey: null },
    ),
    ...refused('bundle', '5', [
      ['other-agent', 'AMID_MISMATCH', "Another agent's bundle", { ...base, bundle: forged }],
      [
        'renamed',
        'AMID_MISMATCH',
        "Another agent's bundle under the name",
        { ...base, bundle: { ...forged, amid: alice.amid } },
      ],
      [
        'foreign-signed-prekey',
        'AMID_MISMATCH',
        'A signed prekey of the registry',
        { ...base, bundle: { ...bundle, signed_prekey: forged.signed_prekey } },
      ],
      [
        'foreign-one-time-prekey',
        'INVALID_SIGNATURE',
        'A one-time prekey of the registry under the name',
        {
          ...base,
          bundle: { ...bundle, one_time_prekey: { ...forged.one_time_prekey, amid: alice.amid } },
        },
      ],
      [
        'wrong-slot',
        'MALFORMED',
        'A one-time prekey as signed prekey',
        { ...base, bundle: { ...bundle, signed_prekey: bundle.one_time_prekey } },
      ],
      [
        'stale',
        'KEY_EXPIRED',
        'Its owner was away for 11 days',
        { ...base, now: formatTimestamp(NOW + 11 * 24 * HOUR) },
      ],
      [
        'small-order-key',
        'INVALID_KEY',
        'A signing key of small order',
        { ...base, bundle: { ...bundle, signing_public_key: `ed25519:${'A'.repeat(43)}=` } },
      ],
    ]),
  ]
}

function registrationVectors(): Entries {
  const registration = testRegistration(alice, { display_name: 'Alice’s agent', direct_endpoint: null })
  const base = { now, registration }
  return [
    ...accepted('registration', '6', '', 'A registration', base, alice.amid),
    ...accepted(
      'registration',
      '6',
      'registry-fields',
      'What the registry says in its own name is not covered',
      { now, registration: { ...registration, tier: 2, online: false, reputation_score: 0.9 } },
      alice.amid,
    ),
    ...refused('registration', '6', [
      [
        'changed-capability',
        'INVALID_SIGNATURE',
        'A capability its agent never named',
        { now, registration: { ...registration, capabilities: ['finance'] } },
      ],
      [
        'changed-relay',
        'INVALID_SIGNATURE',
        'Another relay',
        { now, registration: { ...registration, relay_endpoint: 'wss://evil.example/v1/connect' } },
      ],
      [
        'other-key',
        'AMID_MISMATCH',
        'The AMID of another key',
        { now, registration: { ...registration, amid: mallory.amid } },
      ],
      [
        'foreign-exchange-key',
        'AMID_MISMATCH',
        "Somebody else's exchange key",
        { now, registration: testRegistration(alice, { exchange_key: testKeys(mallory).exchange.record }) },
      ],
    ]),
  ]
}
