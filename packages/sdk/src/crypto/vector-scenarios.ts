/**
 * The scenarios behind test-vectors/crypto/, with what the last refusing step must answer.
 *
 * vectors.test.ts compares them with the files and replays the files; with UPDATE_VECTORS=1 it writes them.
 */
import type { ErrorCode } from '../wire/errors.ts'
import { ed25519KeyPair } from './primitives.ts'
import { open, seal } from './sealing.ts'
import { sign, signedBytes, verify, type SigningLabel } from './signing.ts'
import { flipBit, seededRandom } from './test-support.ts'
import type { CryptoVector, Outcome, RatchetVector, SealVector, SignatureVector } from './vector-format.ts'
import { AD, conversation, playX3dh, recorder, text, toHex, type X3dhScenario } from './vector-players.ts'

/** A message arrives changed, is refused, and then arrives as it was sent. */
function refusedOnce(
  description: string,
  expect: ErrorCode,
  change: (message: Uint8Array) => Uint8Array,
): RatchetVector {
  return conversation(description, expect, (talk) => {
    talk.receive('a', talk.send('b', 'ACCEPT'))
    const message = talk.send('a', 'hello')
    talk.receive('b', change(message))
    talk.receive('b', message)
  })
}

const FIRST_HEADER_BYTE = 2 + 24

function signatureVector(description: string, expect: Outcome, usedLabel: SigningLabel): SignatureVector {
  const seed = seededRandom('signature vectors')(32)
  const pair = ed25519KeyPair(seed)
  const parts = [text('first part'), text(''), text('third part')]
  const signature = sign('envelope', pair.secretKey, ...parts)
  const verifies = verify(usedLabel, pair.publicKey, signature, ...parts)
  if (verifies !== (expect === 'ok')) throw new Error('the scenario does not come out as it says')
  return {
    description,
    section: 'spec/crypto.md 2',
    expect,
    kind: 'signature',
    label: usedLabel,
    public_key: toHex(pair.publicKey),
    seed: toHex(seed),
    parts: parts.map(toHex),
    signed_bytes: toHex(signedBytes(usedLabel, ...parts)),
    signature: toHex(signature),
  }
}

function sealVector(description: string, expect: Outcome, openedAt: string): SealVector {
  const source = seededRandom('seal vectors')
  const key = source(32)
  const draws = recorder(source)
  const sealed = seal(key, text('a record'), text('state.db/sessions/1'), draws.random)
  if (expect === 'ok') open(key, sealed, text(openedAt))
  return {
    description,
    section: 'spec/crypto.md 3',
    expect,
    kind: 'seal',
    key: toHex(key),
    place: toHex(text(openedAt)),
    random: draws.take(),
    plaintext: toHex(text('a record')),
    sealed: toHex(sealed),
  }
}

/** Every vector, by file name. */
export function cryptoVectors(): ReadonlyMap<string, CryptoVector> {
  const x3dh = (scenario: X3dhScenario) => playX3dh(scenario).vector
  const both = { kemKind: 'one-time', oneTimePrekey: true } as const
  const unreduced = (key: Uint8Array) => {
    const changed = key.slice()
    changed.set([0xff, 0xff, 0xff])
    return changed
  }
  return new Map<string, CryptoVector>([
    [
      'x3dh-one-time-keys',
      x3dh({
        description: 'X3DH with a one-time curve prekey and a one-time KEM key',
        seed: 'x3dh 1',
        ...both,
      }),
    ],
    [
      'x3dh-no-one-time-prekey',
      x3dh({
        description: 'X3DH without a one-time curve prekey',
        seed: 'x3dh 2',
        kemKind: 'one-time',
        oneTimePrekey: false,
      }),
    ],
    [
      'x3dh-last-resort-kem',
      x3dh({
        description: 'X3DH with a one-time curve prekey and the last-resort KEM key',
        seed: 'x3dh 3',
        kemKind: 'last-resort',
        oneTimePrekey: true,
      }),
    ],
    [
      'x3dh-last-resort-only',
      x3dh({
        description: 'X3DH when all one-time keys have run out',
        seed: 'x3dh 4',
        kemKind: 'last-resort',
        oneTimePrekey: false,
      }),
    ],
    [
      'x3dh-weak-signed-prekey',
      x3dh({
        description: 'The bundle has a signed prekey of small order',
        seed: 'x3dh 5',
        ...both,
        refused: { by: 'a', expect: 'WEAK_SHARED_SECRET' },
        bundle: (bundle) => ({ ...bundle, signedPrekey: new Uint8Array(32) }),
      }),
    ],
    [
      'x3dh-weak-ephemeral-key',
      x3dh({
        description: 'The KNOCK has an ephemeral key of small order',
        seed: 'x3dh 6',
        ...both,
        refused: { by: 'b', expect: 'WEAK_SHARED_SECRET' },
        ephemeralKey: new Uint8Array(32),
      }),
    ],
    [
      'x3dh-unreduced-kem-key',
      x3dh({
        description: 'The bundle has a KEM key with a coefficient of q or more',
        seed: 'x3dh 7',
        ...both,
        refused: { by: 'a', expect: 'INVALID_KEY' },
        bundle: (bundle) => ({ ...bundle, kemKey: unreduced(bundle.kemKey) }),
      }),
    ],
    [
      'ratchet-ping-pong',
      conversation('Three round trips, one message each way', 'ok', (talk) => {
        for (let n = 0; n < 3; n++) {
          talk.receive('a', talk.send('b', `ping ${n}`))
          talk.receive('b', talk.send('a', `pong ${n}`))
        }
      }),
    ],
    [
      'ratchet-out-of-order',
      conversation('Messages arrive in another order, also after their chain has ended', 'ok', (talk) => {
        const early = ['zero', 'one', 'two', 'three'].map((body) => talk.send('b', body))
        for (const at of [2, 0]) talk.receive('a', early[at] ?? AD)
        talk.receive('b', talk.send('a', 'turn'))
        const late = ['four', 'five'].map((body) => talk.send('b', body))
        talk.receive('a', late[1] ?? AD)
        talk.receive('a', early[3] ?? AD)
        talk.receive('a', late[0] ?? AD)
        talk.receive('a', early[1] ?? AD)
      }),
    ],
    [
      'ratchet-lost',
      conversation('Messages of both sides are lost, within a chain and at its end', 'ok', (talk) => {
        talk.send('b', 'lost')
        talk.receive('a', talk.send('b', 'arrives'))
        talk.send('b', 'lost at the end of the chain')
        talk.send('a', 'lost')
        talk.receive('b', talk.send('a', 'arrives'))
        talk.send('a', 'lost at the end of the chain')
        talk.receive('a', talk.send('b', 'and it goes on'))
        talk.receive('b', talk.send('a', 'on both sides'))
      }),
    ],
    [
      'ratchet-kem-step',
      conversation('KEM steps after ten minutes, by A and then by B', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'ACCEPT, with the first step'))
        talk.now += 599_999
        talk.receive('b', talk.send('a', 'a millisecond too early'))
        talk.receive('a', talk.send('b', 'not my step to make'))
        talk.now += 1
        talk.receive('b', talk.send('a', 'with a step'))
        talk.now += 600_000
        talk.receive('a', talk.send('b', 'with a step'))
        talk.receive('b', talk.send('a', 'without'))
      }),
    ],
    [
      'ratchet-kem-step-by-count',
      conversation('A KEM step after fifty messages, both directions together', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'one'))
        talk.receive('b', talk.send('a', 'two'))
        talk.discard('a', 47)
        talk.receive('a', talk.send('b', 'fifty for A, three for B'))
        talk.receive('b', talk.send('a', 'with a step'))
      }),
    ],
    [
      'ratchet-gap-2000',
      conversation('A message 2,000 ahead of its chain is taken', 'ok', (talk) => {
        talk.receive('a', talk.send('b', 'first'))
        talk.discard('b', 2000)
        talk.receive('a', talk.send('b', 'far ahead'))
      }),
    ],
    [
      'ratchet-gap-2001',
      conversation('A message 2,001 ahead of its chain is refused', 'RATCHET_GAP', (talk) => {
        talk.receive('a', talk.send('b', 'first'))
        talk.discard('b', 2001)
        talk.receive('a', talk.send('b', 'too far ahead'))
      }),
    ],
    [
      'ratchet-skipped-2001',
      conversation('Of 2,001 skipped messages the oldest is refused', 'RATCHET_DUPLICATE', (talk) => {
        const [oldest, second] = [talk.send('b', 'oldest'), talk.send('b', 'second')]
        talk.discard('b', 998)
        talk.receive('a', talk.send('b', 'middle'))
        talk.discard('b', 1001)
        talk.receive('a', talk.send('b', 'last'))
        talk.receive('a', oldest)
        talk.receive('a', second)
      }),
    ],
    [
      'ratchet-sixth-chain',
      conversation(
        'Of six chains with skipped messages the oldest is refused',
        'DECRYPTION_FAILED',
        (talk) => {
          const missing: Uint8Array[] = []
          for (let n = 0; n < 6; n++) {
            missing.push(talk.send('b', `missing ${n}`))
            talk.receive('a', talk.send('b', 'ping'))
            talk.receive('b', talk.send('a', 'pong'))
          }
          for (const message of missing) talk.receive('a', message)
        },
      ),
    ],
    [
      'ratchet-duplicate',
      conversation('A message comes twice', 'RATCHET_DUPLICATE', (talk) => {
        const message = talk.send('b', 'once')
        talk.receive('a', message)
        talk.receive('a', message)
      }),
    ],
    [
      'ratchet-changed-header',
      refusedOnce('A bit of the sealed header is flipped', 'DECRYPTION_FAILED', (m) =>
        flipBit(m, FIRST_HEADER_BYTE * 8),
      ),
    ],
    [
      'ratchet-changed-nonce',
      refusedOnce('A bit of the nonce is flipped', 'DECRYPTION_FAILED', (m) => flipBit(m, 2 * 8)),
    ],
    [
      'ratchet-changed-ciphertext',
      refusedOnce('A bit of the ciphertext is flipped', 'DECRYPTION_FAILED', (m) =>
        flipBit(m, (m.length - 17) * 8),
      ),
    ],
    [
      'ratchet-cut-short',
      refusedOnce('The message ends before its ciphertext has a tag', 'MALFORMED', (m) =>
        m.subarray(0, 2 + 24 + 57 + 15),
      ),
    ],
    [
      'ratchet-wrong-associated-data',
      conversation('A message arrives under other associated data', 'DECRYPTION_FAILED', (talk) => {
        const message = talk.send('b', 'hello')
        talk.receive('a', message, text('another session'))
        talk.receive('a', message)
      }),
    ],
    [
      'ratchet-reflected',
      conversation('A message is sent back to its sender', 'DECRYPTION_FAILED', (talk) => {
        talk.receive('a', talk.send('b', 'ACCEPT'))
        talk.receive('a', talk.send('a', 'hello'))
      }),
    ],
    ['signature', signatureVector('A labelled signature over three parts, one empty', 'ok', 'envelope')],
    [
      'signature-other-label',
      signatureVector('The same signature under another label', 'INVALID_SIGNATURE', 'accept'),
    ],
    ['seal', sealVector('A sealed record opens at its place', 'ok', 'state.db/sessions/1')],
    [
      'seal-other-place',
      sealVector('A sealed record does not open at another place', 'SEAL_BROKEN', 'state.db/sessions/2'),
    ],
  ])
}
