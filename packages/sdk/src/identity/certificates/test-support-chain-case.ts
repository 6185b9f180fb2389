/** A chain with the verdict of our path validation, and, where that of `openssl verify` is another, why. */
import type { Amid } from '../../wire/index.ts'
import { didFromAmid } from '../amid.ts'
import { DAY, NOW } from '../test-support.ts'
import { keyIdOf } from './certificate.ts'
import { issueCrl, type CrlEntry } from './crl.ts'
import { derExtension, derNumber } from './der-writer.ts'
import type { Issuer } from './issue.ts'
import type { PathFailureCode } from './path-validation.ts'
import { certifiedIdentity, testKeyPair } from './test-support.ts'
import {
  AGENT_AMID,
  buildChain,
  SESSION_KEY,
  uriOf,
  type BuiltLevel,
  type Change,
  type LevelName,
} from './test-support-chains.ts'

export interface ChainCase {
  readonly name: string
  /** Leaf first. */
  readonly chain: readonly Uint8Array[]
  readonly root: Uint8Array
  readonly intermediates: readonly Uint8Array[]
  readonly crls: readonly Uint8Array[]
  readonly amid: Amid
  readonly sessionKey?: Uint8Array | undefined
  readonly now?: number
  readonly verdict: PathFailureCode | 'good' | 'unknown'
  /** Set when openssl takes the chain: why it does. */
  readonly differs?: string
}

type Options = Partial<Omit<ChainCase, 'name' | 'verdict'>> & {
  readonly isOrganized?: boolean
  readonly lists?: (levels: Record<LevelName, BuiltLevel>) => readonly Uint8Array[]
}

/** A list as `level` would issue it, whatever its certificate says it may. */
export function listOf(
  level: BuiltLevel,
  entries: readonly CrlEntry[] = [],
  from = NOW - DAY / 2,
): Uint8Array {
  const names = { subject: { der: level.subject }, keyId: keyIdOf(level.key.publicKey) }
  const certificate = { ...names, publicKey: { bytes: level.key.publicKey } } as Issuer['certificate']
  return issueCrl(
    { entries, number: 7, thisUpdate: from, nextUpdate: from + DAY },
    { certificate, signing: level.key },
  )
}

export const revoking = (
  { serial }: BuiltLevel,
  reason: CrlEntry['reason'] = 'keyCompromise',
): CrlEntry[] => [{ serial, revokedAt: NOW - DAY / 2, reason }]

export function chainCase(
  name: string,
  verdict: ChainCase['verdict'],
  changes: Partial<Record<LevelName, Change>> = {},
  { isOrganized, lists, ...options }: Options = {},
): ChainCase {
  const { levels, chain } = buildChain(changes, isOrganized)
  return {
    name,
    verdict,
    chain,
    root: levels.root.der,
    intermediates: [levels.intermediate.der],
    crls: lists?.(levels) ?? [listOf(levels.root), listOf(levels.intermediate), listOf(levels.organization)],
    amid: AGENT_AMID,
    sessionKey: SESSION_KEY,
    ...options,
  }
}

export const STRICTER = 'our profile asks for more than RFC 5280'
export const CANONICAL = 'openssl takes what is not in canonical DER, or does not look at it'
export const BINDING = 'openssl knows no AMIDs'

export const built = buildChain()
export const { root, intermediate, organization, agent, session } = built.levels
export const other = testKeyPair('chain other')
export const stranger = certifiedIdentity('stranger')
export const unknownExtension = (critical: boolean) =>
  derExtension('1.3.6.1.4.1.99999.1', critical, derNumber(1))
export const did = uriOf(didFromAmid(AGENT_AMID))
export const flipLastByte = (der: Uint8Array): Uint8Array => der.with(der.length - 1, (der.at(-1) ?? 0) ^ 1)
