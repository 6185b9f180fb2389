/** Chains that are not in form: encodings, and shapes that no chain has. */
import { concatBytes, utf8Bytes } from '../../wire/index.ts'
import { OID } from './certificate.ts'
import { TAG } from './der-reader.ts'
import {
  derBits,
  derExtension,
  derNumber,
  derOid,
  derSequence,
  derValue,
  ED25519_ALGORITHM,
} from './der-writer.ts'
import { testKeyPair } from './test-support.ts'
import {
  authorityExtension,
  buildChain,
  keyIdExtension,
  keyUsageOf,
  nameOf,
  rawCertificate,
} from './test-support-chains.ts'
import {
  built,
  CANONICAL,
  chainCase,
  agent,
  intermediate,
  organization,
  other,
  root,
  session,
  STRICTER,
  unknownExtension,
  type ChainCase,
} from './test-support-chain-case.ts'

/** The validity of what is signed, with four digits of year in each date. */
function withGeneralizedTimes(signed: Uint8Array): Uint8Array {
  const start = signed.findIndex((byte, at) => byte === TAG.utcTime && signed[at + 1] === 13)
  const [from, to] = [signed.subarray(start + 2, start + 15), signed.subarray(start + 17, start + 30)]
  const century = utf8Bytes('20')
  const validity = derSequence(
    derValue(TAG.generalizedTime, century, from),
    derValue(TAG.generalizedTime, century, to),
  )
  const head = signed.subarray(signed[1] === 0x82 ? 4 : 3, start - 2)
  return derSequence(head, validity, signed.subarray(start + 30))
}

export const ENCODING_CASES: readonly ChainCase[] = [
  chainCase(
    'a length in more bytes than it takes',
    'malformed',
    {
      session: { beforeSigning: (signed) => concatBytes(Uint8Array.of(0x30, 0x83, 0), signed.subarray(2)) },
    },
    { differs: CANONICAL },
  ),
  chainCase(
    'bytes behind the certificate',
    'malformed',
    { session: { afterSigning: (der) => concatBytes(der, Uint8Array.of(0)) } },
    { differs: CANONICAL },
  ),
  chainCase('bytes behind what is signed', 'malformed', {
    session: {
      beforeSigning: (signed) => derSequence(signed.subarray(signed.indexOf(0xa0, 4)), derNumber(1)),
    },
  }),
  chainCase(
    'FALSE written out',
    'malformed',
    {
      session: {
        extensions: {
          other: derSequence(
            derOid('1.3.6.1.4.1.99999.1'),
            Uint8Array.of(1, 1, 0),
            derValue(TAG.octetString, derNumber(1)),
          ),
        },
      },
    },
    { differs: CANONICAL },
  ),
  chainCase(
    'TRUE as 1',
    'malformed',
    {
      session: {
        extensions: {
          keyUsage: derSequence(
            derOid(OID.keyUsage),
            Uint8Array.of(1, 1, 1),
            derValue(TAG.octetString, derBits(Uint8Array.of(8), 3)),
          ),
        },
      },
    },
    { differs: CANONICAL },
  ),
  chainCase(
    'an unknown extension twice',
    'malformed',
    {
      session: { extensions: { other: concatBytes(unknownExtension(false), unknownExtension(false)) } },
    },
    { differs: CANONICAL },
  ),
  chainCase('the key usage twice', 'malformed', {
    session: { extensions: { other: keyUsageOf('keyAgreement') } },
  }),
  chainCase('serial number zero', 'malformed', { session: { serial: '00' } }, { differs: CANONICAL }),
  chainCase('negative serial number', 'malformed', { session: { serial: '81' } }, { differs: CANONICAL }),
  chainCase(
    'serial number of 21 bytes',
    'malformed',
    { session: { serial: '01'.repeat(21) } },
    { differs: CANONICAL },
  ),
  chainCase('X.509 version 1', 'malformed', { session: { version: undefined, extensions: {} } }),
  chainCase('X.509 version 2 with extensions', 'malformed', { session: { version: derNumber(1) } }),
  chainCase('algorithm with parameters', 'malformed', {
    session: { algorithm: derSequence(derOid('1.3.101.112'), Uint8Array.of(5, 0)) },
  }),
  chainCase(
    'key identifier of another key',
    'malformed',
    {
      session: { extensions: { subjectKeyIdentifier: keyIdExtension(other.publicKey) } },
    },
    { differs: STRICTER },
  ),
  chainCase('key of 31 bytes', 'malformed', {
    session: { spki: derSequence(ED25519_ALGORITHM, derBits(other.publicKey.subarray(1))) },
  }),
  chainCase(
    'key of small order',
    'malformed',
    {
      session: { spki: derSequence(ED25519_ALGORITHM, derBits(new Uint8Array(32).fill(1, 0, 1))) },
    },
    { differs: 'openssl takes keys under which anybody can forge' },
  ),
  chainCase(
    'dates in GeneralizedTime before 2050',
    'malformed',
    {
      session: {
        beforeSigning: (signed) => withGeneralizedTimes(signed),
      },
    },
    { differs: CANONICAL },
  ),
  chainCase('no bytes', 'malformed', {}, { chain: [new Uint8Array(0), ...built.chain.slice(1)] }),
  chainCase('text', 'malformed', {}, { chain: [utf8Bytes('certificate'), ...built.chain.slice(1)] }),
  chainCase(
    'more than 2,048 bytes',
    'malformed',
    {
      session: {
        extensions: {
          other: derExtension('1.3.6.1.4.1.99999.1', false, derValue(TAG.octetString, new Uint8Array(2000))),
        },
      },
    },
    { differs: STRICTER },
  ),
]

/** CAs without end, each certified by the next, the last by the root. */
function ladder(length: number): Uint8Array[] {
  const nameAt = (index: number) =>
    index === length ? root.subject : nameOf({ commonName: `rung ${index}` })
  return Array.from({ length }, (_, index) =>
    rawCertificate({
      ...intermediate,
      subject: nameAt(index),
      issuer: nameAt(index + 1),
      signer: index === length - 1 ? root.key : intermediate.key,
      extensions: {
        ...intermediate.extensions,
        authorityKeyIdentifier: authorityExtension(
          (index === length - 1 ? root.key : intermediate.key).publicKey,
        ),
      },
    }),
  )
}

/** Two CAs that certified each other. */
function loop(): ChainCase {
  const [a, b] = [testKeyPair('chain a'), testKeyPair('chain b')]
  const ca = (name: string, key: typeof a, issuer: string, signer: typeof a) =>
    rawCertificate({
      ...intermediate,
      subject: nameOf({ commonName: name }),
      issuer: nameOf({ commonName: issuer }),
      key,
      signer,
      spki: derSequence(ED25519_ALGORITHM, derBits(key.publicKey)),
      extensions: {
        ...intermediate.extensions,
        subjectKeyIdentifier: keyIdExtension(key.publicKey),
        authorityKeyIdentifier: authorityExtension(signer.publicKey),
      },
    })
  const leaf = buildChain({
    agent: {
      issuer: nameOf({ commonName: 'a' }),
      signer: a,
      extensions: { authorityKeyIdentifier: authorityExtension(a.publicKey) },
    },
  }).levels.agent.der
  const chain = [leaf, ca('a', a, 'b', b), ca('b', b, 'a', a), ca('a', a, 'b', b)]
  return chainCase(
    'two CAs that certified each other',
    'unknown_issuer',
    {},
    { chain, sessionKey: undefined },
  )
}

export const SHAPE_CASES: readonly ChainCase[] = [
  loop(),
  chainCase('no certificate', 'chain_length', {}, { chain: [] }),
  chainCase(
    'five certificates',
    'chain_length',
    {},
    {
      chain: [...built.chain, intermediate.der, intermediate.der],
      differs: 'openssl passes over what it does not need',
    },
  ),
  chainCase(
    'the same certificate ten thousand times',
    'chain_length',
    {},
    {
      chain: [session.der, ...Array.from({ length: 9_999 }, () => agent.der)],
      intermediates: [organization.der, intermediate.der],
      differs: 'openssl passes over what it does not need',
    },
  ),
  chainCase(
    'ten thousand certificates up to the root',
    'chain_length',
    {},
    { chain: ladder(10_000), sessionKey: undefined },
  ),
  chainCase(
    'certificates out of order',
    'unknown_issuer',
    {},
    {
      chain: [session.der, organization.der, agent.der],
      differs: 'openssl looks for a path itself',
    },
  ),
  chainCase('organisation left out', 'unknown_issuer', {}, { chain: [session.der, agent.der] }),
  chainCase(
    'root sent in place of a chain',
    'unknown_issuer',
    {},
    { chain: [root.der], sessionKey: undefined, differs: STRICTER },
  ),
  chainCase(
    'organisation in place of an agent',
    'profile',
    {},
    { chain: [organization.der], sessionKey: undefined, differs: STRICTER },
  ),
]
