/** Chains that hold, and those that dates, signatures, lists and AMIDs break. */
import { didFromAmid } from '../amid.ts'
import { DAY, NOW } from '../test-support.ts'
import { derBits, derSequence, ED25519_ALGORITHM } from './der-writer.ts'
import { testKeyPair } from './test-support.ts'
import {
  AGENT_KEY,
  alternativeNamesOf,
  authorityExtension,
  buildChain,
  caOf,
  keyIdExtension,
  keyUsageOf,
  nameOf,
  SESSION_KEY,
  uriOf,
} from './test-support-chains.ts'
import {
  BINDING,
  built,
  chainCase,
  flipLastByte,
  intermediate,
  listOf,
  other,
  revoking,
  root,
  STRICTER,
  stranger,
  unknownExtension,
  type ChainCase,
} from './test-support-chain-case.ts'

export const GOOD_CASES: readonly ChainCase[] = [
  chainCase('session of an agent of an organisation', 'good'),
  chainCase('session of an agent of the registry', 'good', {}, { isOrganized: false }),
  {
    ...chainCase('agent of an organisation, without a session', 'good', {}, { chain: built.chain.slice(1) }),
    sessionKey: undefined,
  },
  chainCase('intermediate sent along', 'good', {}, { chain: [...built.chain, intermediate.der] }),
  chainCase('unknown extension that is not critical', 'good', {
    agent: { extensions: { other: unknownExtension(false) } },
  }),
  chainCase('a name outside ASCII', 'good', {
    agent: { subject: nameOf({ organization: 'Acme', commonName: 'Élodie 東京' }) },
  }),
  chainCase('dates after 2049', 'good', { root: { notAfter: Date.UTC(2060, 0, 1) } }),
  chainCase('the first second of a certificate', 'good', { agent: { notBefore: NOW } }),
  chainCase(
    'somebody else revoked',
    'good',
    {},
    {
      lists: (levels) => [
        listOf(levels.root),
        listOf(levels.intermediate),
        listOf(levels.organization, [{ serial: '0102', revokedAt: NOW - DAY, reason: 'superseded' }]),
      ],
    },
  ),
  chainCase('a session that names its key', 'good', {
    session: { extensions: { subjectKeyIdentifier: keyIdExtension(SESSION_KEY) } },
  }),
]

export const DATE_CASES: readonly ChainCase[] = (
  ['root', 'intermediate', 'organization', 'agent', 'session'] as const
).flatMap((level) => [
  chainCase(`${level} expired`, 'expired', { [level]: { notAfter: NOW - 1000 } }),
  chainCase(`${level} not yet valid`, 'not_yet_valid', { [level]: { notBefore: NOW + 1000 } }),
])

export const SIGNATURE_CASES: readonly ChainCase[] = [
  ...(['intermediate', 'organization', 'agent', 'session'] as const).flatMap((level) => [
    chainCase(`${level} with a changed signature`, 'signature', { [level]: { afterSigning: flipLastByte } }),
    chainCase(`${level} signed by another key`, 'signature', { [level]: { signer: other } }),
  ]),
  chainCase('agent signed by itself in the name of the organisation', 'signature', {
    agent: { signer: AGENT_KEY },
  }),
  chainCase(
    'a root that nobody here trusts',
    'unknown_issuer',
    {},
    {
      root: buildChain({ root: { key: other } }).levels.root.der,
      intermediates: [
        buildChain({ root: { key: other }, intermediate: { key: testKeyPair('chain third') } }).levels
          .intermediate.der,
      ],
    },
  ),
  chainCase(
    'a root of the trusted name with another key',
    'unknown_issuer',
    {},
    {
      root: buildChain({ root: { key: other } }).levels.root.der,
      intermediates: [],
    },
  ),
]

export const LIST_CASES: readonly ChainCase[] = [
  ...(['intermediate', 'organization', 'agent'] as const).map((level) =>
    chainCase(
      `${level} revoked`,
      'revoked',
      {},
      {
        lists: (levels) => [
          listOf(levels.root, level === 'intermediate' ? revoking(levels[level]) : []),
          listOf(levels.intermediate, level === 'organization' ? revoking(levels[level]) : []),
          listOf(levels.organization, level === 'agent' ? revoking(levels[level], 'unspecified') : []),
        ],
      },
    ),
  ),
  chainCase(
    'agent revoked by a list that is stale',
    'revoked',
    {},
    {
      lists: (levels) => [
        listOf(levels.root),
        listOf(levels.intermediate),
        listOf(levels.organization, revoking(levels.agent), NOW - 3 * DAY),
      ],
    },
  ),
  chainCase(
    'no list of the organisation',
    'unknown',
    {},
    { lists: (levels) => [listOf(levels.root), listOf(levels.intermediate)] },
  ),
  chainCase(
    'no list of the root',
    'unknown',
    {},
    { lists: (levels) => [listOf(levels.intermediate), listOf(levels.organization)] },
  ),
  chainCase(
    'stale list of the organisation',
    'unknown',
    {},
    {
      lists: (levels) => [
        listOf(levels.root),
        listOf(levels.intermediate),
        listOf(levels.organization, [], NOW - 2 * DAY),
      ],
    },
  ),
  chainCase(
    'list of the future',
    'unknown',
    {},
    {
      lists: (levels) => [
        listOf(levels.root),
        listOf(levels.intermediate),
        listOf(levels.organization, [], NOW + 1000),
      ],
    },
  ),
  chainCase(
    'list with a changed signature',
    'unknown',
    {},
    {
      lists: (levels) => [
        listOf(levels.root),
        listOf(levels.intermediate),
        flipLastByte(listOf(levels.organization)),
      ],
    },
  ),
  chainCase('list of an issuer that may sign none', 'profile', {
    organization: { extensions: { keyUsage: keyUsageOf('keyCertSign') } },
  }),
]

/** Each right by RFC 5280, and refused by one rule of the profile alone. */
export const PLACE_CASES: readonly ChainCase[] = [
  chainCase(
    'agent certified by an agent',
    'profile',
    {
      session: {
        subject: nameOf({ commonName: 'Mallory' }),
        key: stranger.signing,
        spki: derSequence(ED25519_ALGORITHM, derBits(stranger.signing.publicKey)),
        extensions: {
          subjectKeyIdentifier: keyIdExtension(stranger.signing.publicKey),
          basicConstraints: caOf(0),
          keyUsage: keyUsageOf('keyCertSign', 'digitalSignature'),
          subjectAlternativeName: alternativeNamesOf(uriOf(didFromAmid(stranger.amid))),
        },
      },
    },
    { isOrganized: false, amid: stranger.amid, sessionKey: undefined },
  ),
  underRoot(),
  chainCase(
    'agent of an organisation’s name under the registry',
    'profile',
    { agent: { subject: nameOf({ organization: 'Acme', commonName: 'Alice' }) } },
    { isOrganized: false, differs: STRICTER },
  ),
  chainCase(
    'session of its agent’s own name',
    'profile',
    { session: { subject: nameOf({ organization: 'Acme', commonName: 'Alice' }) } },
    { differs: STRICTER },
  ),
]

/** An agent that the root certified, past the intermediate. */
function underRoot(): ChainCase {
  const { levels } = buildChain(
    {
      agent: {
        issuer: root.subject,
        signer: root.key,
        extensions: { authorityKeyIdentifier: authorityExtension(root.key.publicKey) },
      },
    },
    false,
  )
  const options = { chain: [levels.agent.der], sessionKey: undefined }
  return chainCase('agent certified by the root', 'profile', {}, options)
}

export const BINDING_CASES: readonly ChainCase[] = [
  chainCase(
    'somebody else’s chain, without a session',
    'amid_mismatch',
    {},
    { chain: built.chain.slice(1), sessionKey: undefined, amid: stranger.amid, differs: BINDING },
  ),
  chainCase('somebody else’s chain', 'amid_mismatch', {}, { amid: stranger.amid, differs: BINDING }),
  chainCase(
    'DID of another agent than the key’s',
    'profile',
    {
      agent: {
        extensions: { subjectAlternativeName: alternativeNamesOf(uriOf(didFromAmid(stranger.amid))) },
      },
    },
    { differs: BINDING },
  ),
  chainCase(
    'session in the name of another agent',
    'amid_mismatch',
    {
      session: {
        extensions: { subjectAlternativeName: alternativeNamesOf(uriOf(didFromAmid(stranger.amid))) },
      },
    },
    { differs: BINDING },
  ),
  chainCase(
    'session for another key',
    'session_key_mismatch',
    {},
    { sessionKey: other.publicKey, differs: BINDING },
  ),
  chainCase(
    'agent where a session is asked for',
    'profile',
    {},
    {
      chain: built.chain.slice(1),
      differs: BINDING,
    },
  ),
  chainCase(
    'DID that is no AMID',
    'malformed',
    {
      agent: { extensions: { subjectAlternativeName: alternativeNamesOf(uriOf('did:agentmesh:1111')) } },
    },
    { differs: BINDING },
  ),
]
