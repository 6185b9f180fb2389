/** Scenarios of what an agent signs as it goes: requests, CONNECT, succession. */
import { sign, signedBytes } from '../crypto/signing.ts'
import { formatTimestamp, fromHex, toBase64, toHex, utf8Bytes } from '../wire/index.ts'
import { connectSignatureParts } from './connect.ts'
import { contentDigest, signRequest } from './http-signature.ts'
import { newRecoveryWords, recoveryKeyPair, signSuccession } from './recovery.ts'
import { NOW, testIdentity, testRandom } from './test-support.ts'
import {
  accepted,
  alice,
  alicePublicKey,
  HOUR,
  mallory,
  now,
  refused,
  type Entries,
} from './test-support-vectors.ts'

export function requestVectors(): Entries {
  const body = utf8Bytes('{"state":"away"}')
  const url = 'https://registry.example/v1/registry/presence?verbose'
  const headers = signRequest({ method: 'PUT', url, body }, alice, {
    now: NOW,
    nonce: testRandom('vector nonce')(16),
  })
  const base = {
    method: 'PUT',
    authority: 'registry.example',
    target: '/v1/registry/presence?verbose',
    headers,
    body: toBase64(body),
    now,
  }
  const other = utf8Bytes('{"state":"online"}')
  const edited = (pattern: RegExp, text: string) => ({
    ...headers,
    'signature-input': String(headers['signature-input']).replace(pattern, text),
  })
  return [
    ...accepted('request', '7', '', 'A signed PUT with a body', base, alice.amid),
    ...refused('request', '7', [
      ['other-method', 'INVALID_SIGNATURE', 'Another method', { ...base, method: 'POST' }],
      [
        'other-host',
        'INVALID_SIGNATURE',
        'Sent to another registry',
        { ...base, authority: 'other.example' },
      ],
      [
        'other-path',
        'INVALID_SIGNATURE',
        'Another path',
        { ...base, target: '/v1/registry/prekeys?verbose' },
      ],
      ['other-query', 'INVALID_SIGNATURE', 'Another query', { ...base, target: '/v1/registry/presence' }],
      ['other-body', 'INVALID_SIGNATURE', 'Another body', { ...base, body: toBase64(other) }],
      [
        'other-body-and-digest',
        'INVALID_SIGNATURE',
        'Another body with its digest',
        { ...base, body: toBase64(other), headers: { ...headers, 'content-digest': contentDigest(other) } },
      ],
      [
        'uncovered-body',
        'INVALID_SIGNATURE',
        'The digest is taken out of the covered components',
        { ...base, headers: edited(/ "content-digest"/, '') },
      ],
      [
        'other-key',
        'AMID_MISMATCH',
        "Somebody else's key",
        {
          ...base,
          headers: { ...headers, 'agentmesh-key': `ed25519:${toBase64(mallory.signing.publicKey)}` },
        },
      ],
      [
        'longer-life',
        'INVALID_SIGNATURE',
        'An expiry put off',
        { ...base, headers: edited(/expires=\d+/, 'expires=99999999999') },
      ],
      ['expired', 'SIGNATURE_EXPIRED', 'An hour later', { ...base, now: formatTimestamp(NOW + HOUR) }],
      ['future', 'SIGNATURE_EXPIRED', 'An hour ahead', { ...base, now: formatTimestamp(NOW - HOUR) }],
      [
        'unsigned',
        'INVALID_SIGNATURE',
        'No signature',
        { ...base, headers: { 'agentmesh-key': headers['agentmesh-key'] } },
      ],
    ]),
  ]
}

export function connectVectors(): Entries {
  const nonce = testRandom('vector hello')(32)
  const parts = connectSignatureParts('relay.example', nonce, alice.amid, alice.signing.publicKey, NOW, 42)
  const signature = toHex(sign('connect', alice.signing.secretKey, ...parts))
  const base = {
    public_key: alicePublicKey,
    relay_id: 'relay.example',
    nonce: toHex(nonce),
    amid: alice.amid,
    timestamp: NOW,
    state_counter: 42,
    signature,
  }
  return [
    ...accepted('connect', '8', '', 'A CONNECT signature', base, toHex(signedBytes('connect', ...parts))),
    ...refused('connect', '8', [
      ['other-relay', 'INVALID_SIGNATURE', 'Used at another relay', { ...base, relay_id: 'relay2.example' }],
      ['replayed', 'INVALID_SIGNATURE', 'Used for another challenge', { ...base, nonce: '00'.repeat(32) }],
      ['other-amid', 'INVALID_SIGNATURE', "Somebody else's AMID", { ...base, amid: mallory.amid }],
      ['other-time', 'INVALID_SIGNATURE', 'Another time', { ...base, timestamp: NOW + 1 }],
      ['other-state', 'INVALID_SIGNATURE', 'Another state counter', { ...base, state_counter: 43 }],
      ['short-nonce', 'MALFORMED', 'A challenge of 31 bytes', { ...base, nonce: '00'.repeat(31) }],
    ]),
  ]
}

export function recoveryVectors(): Entries {
  const words = newRecoveryWords(testRandom('vector words'))
  const recovery = recoveryKeyPair(words)
  const thief = recoveryKeyPair(newRecoveryWords(testRandom('thief')))
  const statement = signSuccession(recovery, alice.amid, testIdentity('alice again').amid, NOW)
  const base = { recovery_public_key: toHex(recovery.publicKey), now, statement }
  const fixed = newRecoveryWords(() => fromHex('7f'.repeat(32)))
  const list = words.split(' ')
  return [
    ...accepted('recovery', '9', '', 'The key of 24 words', { words }, toHex(recovery.publicKey)),
    ...accepted(
      'recovery',
      '9',
      'published-words',
      'The key of the published BIP-39 words for 32 bytes of 7f, in capitals',
      { words: fixed.toUpperCase() },
      toHex(recoveryKeyPair(fixed).publicKey),
    ),
    ...refused('recovery', '9', [
      ['23-words', 'RECOVERY_WORDS_INVALID', '23 words', { words: list.slice(1).join(' ') }],
      [
        'swapped',
        'RECOVERY_WORDS_INVALID',
        'Two words exchanged',
        { words: [list[1], list[0], ...list.slice(2)].join(' ') },
      ],
      [
        'unknown',
        'RECOVERY_WORDS_INVALID',
        'An unknown word',
        { words: ['mesh', ...list.slice(1)].join(' ') },
      ],
    ]),
    ...accepted('succession', '9', '', 'A statement under the key seen first', base, statement.new_amid),
    ...refused('succession', '9', [
      [
        'other-successor',
        'INVALID_SIGNATURE',
        'Another successor',
        { ...base, statement: { ...statement, new_amid: mallory.amid } },
      ],
      [
        'thief',
        'INVALID_SIGNATURE',
        'Signed by a recovery key that was not there before',
        { ...base, statement: signSuccession(thief, alice.amid, mallory.amid, NOW) },
      ],
      [
        'future',
        'MALFORMED',
        'Dated more than 300 seconds ahead',
        { ...base, now: formatTimestamp(NOW - HOUR) },
      ],
    ]),
  ]
}
