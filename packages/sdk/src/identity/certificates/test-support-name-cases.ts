/** Chains that names, constraints and key usages break. */
import { didFromAmid } from '../amid.ts'
import { OID } from './certificate.ts'
import { contextConstructed, TAG } from './der-reader.ts'
import { derBits, derExtension, derNumber, derOid, derSequence, derText, derValue } from './der-writer.ts'
import {
  alternativeNamesOf,
  authorityExtension,
  buildChain,
  caOf,
  constraintsOf,
  directoryBase,
  dnsBase,
  keyUsageOf,
  nameOf,
  uriOf,
} from './test-support-chains.ts'
import {
  chainCase,
  did,
  organization,
  other,
  stranger,
  STRICTER,
  unknownExtension,
  type ChainCase,
} from './test-support-chain-case.ts'

export const NAME_CASES: readonly ChainCase[] = [
  chainCase('issuer name of somebody else', 'name_chaining', {
    agent: { issuer: nameOf({ organization: 'Other' }) },
  }),
  chainCase(
    'issuer name in another case',
    'name_chaining',
    { agent: { issuer: nameOf({ organization: 'ACME' }) } },
    {
      differs: 'openssl folds case; names of ours have one spelling',
    },
  ),
  chainCase('authority key id of another key', 'name_chaining', {
    session: { extensions: { authorityKeyIdentifier: authorityExtension(other.publicKey) } },
  }),
  chainCase('no authority key id', 'name_chaining', {
    session: { extensions: { authorityKeyIdentifier: undefined } },
  }),
  chainCase('agent outside its organisation', 'name_constraints', {
    agent: { subject: nameOf({ organization: 'Other', commonName: 'Alice' }) },
  }),
  chainCase('agent of no organisation under one', 'name_constraints', {
    agent: { subject: nameOf({ commonName: 'Alice' }) },
  }),
  chainCase('session outside its organisation', 'name_constraints', {
    session: { subject: nameOf({ commonName: 'session' }) },
  }),
  chainCase('DNS name outside the organisation’s domain', 'name_constraints', {
    agent: { extensions: { subjectAlternativeName: alternativeNamesOf(did, dnsBase('acme.example.net')) } },
  }),
  chainCase('DNS name that only ends like the domain', 'name_constraints', {
    agent: { extensions: { subjectAlternativeName: alternativeNamesOf(did, dnsBase('notacme.example')) } },
  }),
  chainCase('name constraint in the root', 'name_constraints', {
    root: { extensions: { nameConstraints: constraintsOf(directoryBase({ organization: 'Other' })) } },
  }),
  chainCase(
    'empty subject of a session',
    'malformed',
    {
      session: {
        subject: derSequence(),
        extensions: {
          subjectAlternativeName: derExtension(OID.subjectAlternativeName, true, derSequence(did)),
        },
      },
    },
    { differs: 'RFC 5280 allows it, and it slips past a directoryName constraint' },
  ),
  chainCase('empty subject of a CA', 'malformed', {
    organization: { subject: derSequence() },
  }),
  chainCase(
    'self-issued certificate below the root',
    'profile',
    {
      organization: {
        subject: nameOf({ commonName: 'intermediate' }),
        extensions: { nameConstraints: undefined },
      },
      agent: { subject: nameOf({ commonName: 'Alice' }) },
      session: { subject: nameOf({ commonName: 'session' }) },
    },
    { differs: STRICTER },
  ),
  chainCase(
    'a country in a name',
    'malformed',
    {
      agent: {
        subject: derSequence(
          derValue(TAG.set, derSequence(derOid('2.5.4.10'), derText(TAG.utf8String, 'Acme'))),
          derValue(TAG.set, derSequence(derOid('2.5.4.6'), derText(0x13, 'FR'))),
        ),
      },
    },
    { differs: STRICTER },
  ),
  chainCase(
    'a name in PrintableString',
    'malformed',
    {
      session: {
        subject: derSequence(
          derValue(TAG.set, derSequence(derOid('2.5.4.10'), derText(TAG.utf8String, 'Acme'))),
          derValue(TAG.set, derSequence(derOid('2.5.4.3'), derText(0x13, 'session'))),
        ),
      },
    },
    { differs: STRICTER },
  ),
  chainCase(
    'two DIDs in one certificate',
    'malformed',
    {
      agent: {
        extensions: { subjectAlternativeName: alternativeNamesOf(did, uriOf(didFromAmid(stranger.amid))) },
      },
    },
    { differs: STRICTER },
  ),
  chainCase('the subject alternative name twice', 'malformed', {
    agent: { extensions: { other: alternativeNamesOf(uriOf(didFromAmid(stranger.amid))) } },
  }),
  chainCase('an empty list of alternative names', 'malformed', {
    session: { extensions: { subjectAlternativeName: alternativeNamesOf() } },
  }),
  chainCase(
    'a mail address as alternative name',
    'malformed',
    {
      agent: {
        extensions: { subjectAlternativeName: alternativeNamesOf(did, derText(0x81, 'a@acme.example')) },
      },
    },
    { differs: STRICTER },
  ),
]

export const CONSTRAINT_CASES: readonly ChainCase[] = [
  chainCase('organisation that is no CA', 'not_a_ca', {
    organization: {
      extensions: {
        basicConstraints: derExtension(OID.basicConstraints, true, derSequence()),
        keyUsage: keyUsageOf('digitalSignature'),
      },
    },
  }),
  chainCase('organisation without basic constraints', 'not_a_ca', {
    organization: { extensions: { basicConstraints: undefined } },
  }),
  chainCase('agent that is no CA', 'not_a_ca', {
    agent: { extensions: { basicConstraints: undefined, keyUsage: keyUsageOf('digitalSignature') } },
  }),
  chainCase('intermediate of path length 1 over an organisation', 'path_length', {
    intermediate: { extensions: { basicConstraints: caOf(1) } },
  }),
  chainCase('organisation of path length 0', 'path_length', {
    organization: { extensions: { basicConstraints: caOf(0) } },
  }),
  chainCase('root of path length 1', 'path_length', { root: { extensions: { basicConstraints: caOf(1) } } }),
  chainCase(
    'agent without a path length',
    'profile',
    { agent: { extensions: { basicConstraints: caOf() } } },
    { differs: STRICTER },
  ),
  chainCase('path length of what is no CA', 'malformed', {
    session: {
      extensions: { basicConstraints: derExtension(OID.basicConstraints, true, derSequence(derNumber(0))) },
    },
  }),
  chainCase('organisation without keyCertSign', 'key_usage', {
    organization: { extensions: { keyUsage: keyUsageOf('cRLSign') } },
  }),
  chainCase('organisation without a key usage', 'key_usage', {
    organization: { extensions: { keyUsage: undefined } },
  }),
  chainCase('agent without keyCertSign', 'key_usage', {
    agent: { extensions: { keyUsage: keyUsageOf('digitalSignature') } },
  }),
  chainCase(
    'session that may sign',
    'profile',
    { session: { extensions: { keyUsage: keyUsageOf('digitalSignature') } } },
    { differs: STRICTER },
  ),
  chainCase('empty key usage', 'malformed', {
    session: { extensions: { keyUsage: derExtension(OID.keyUsage, true, derBits(Uint8Array.of(0), 7)) } },
  }),
  chainCase(
    'organisation without name constraints',
    'profile',
    { organization: { extensions: { nameConstraints: undefined } } },
    { differs: STRICTER },
  ),
  chainCase(
    'organisation constrained to another domain than its own',
    'profile',
    {
      organization: {
        extensions: {
          nameConstraints: constraintsOf(directoryBase({ organization: 'Acme' }), dnsBase('example')),
        },
      },
    },
    { differs: STRICTER },
  ),
  chainCase(
    'name constraints that are not critical',
    'malformed',
    {
      organization: {
        extensions: {
          nameConstraints: derExtension(
            OID.nameConstraints,
            false,
            derSequence(
              derValue(contextConstructed(0), derSequence(directoryBase({ organization: 'Acme' }))),
            ),
          ),
        },
      },
    },
    { differs: STRICTER },
  ),
  chainCase(
    'excluded subtrees',
    'malformed',
    {
      organization: {
        extensions: {
          nameConstraints: derExtension(
            OID.nameConstraints,
            true,
            derSequence(derValue(contextConstructed(1), derSequence(dnsBase('evil.example')))),
          ),
        },
      },
    },
    { differs: STRICTER },
  ),
  ...(['intermediate', 'organization', 'agent', 'session'] as const).map((level) =>
    chainCase(`unknown critical extension in the ${level}`, 'unknown_critical_extension', {
      [level]: { extensions: { other: unknownExtension(true) } },
    }),
  ),
  chainCase(
    'session directly under the organisation',
    'profile',
    {},
    {
      chain: [
        buildChain({
          session: {
            issuer: organization.subject,
            signer: organization.key,
            extensions: { authorityKeyIdentifier: authorityExtension(organization.key.publicKey) },
          },
        }).levels.session.der,
        organization.der,
      ],
      sessionKey: undefined,
      differs: STRICTER,
    },
  ),
]
