/**
 * What we show of ourselves in KNOCK and ACCEPT: certificates, their place in the registry's log, the registry's word on our
 * reputation (DESIGN §8). The other side checks it with `verifyStanding`.
 */
import {
  certificateText,
  issueSession,
  newSerial,
  type Certificate,
  type Identity,
} from '../identity/index.ts'
import {
  CLOCK_SKEW_SECONDS,
  type CertificateProof,
  type Knock,
  type ReputationCredential,
} from '../wire/index.ts'
import type { SessionEnvironment } from './handshake.ts'
import type { Shown } from './standing.ts'

export interface OwnStanding {
  /** Our agent certificate, then the organisation's if that issued it; and the proof that ours is in the registry's log. */
  readonly certificates?: {
    readonly agent: Certificate
    readonly organization?: Certificate
    readonly proof: CertificateProof
  }
  readonly reputation?: ReputationCredential
}

/** Whose KNOCK it is, and what its session certificate is for. */
interface KnockSubject {
  readonly identity: Identity
  /** EK_A, X25519. */
  readonly ephemeralKey: Uint8Array
  /** Of the KNOCK, milliseconds since the epoch. */
  readonly expiresAt: number
}

/** What stands under `from` of a KNOCK: no more than what comes along can show. */
export function claimsOf(
  displayName: string | undefined,
  standing: OwnStanding | undefined,
): Omit<Knock['from'], 'amid'> {
  const { certificates, reputation } = standing ?? {}
  const subject = certificates?.agent.subject
  const certifiedName = subject?.commonName === certificates?.agent.amid ? undefined : subject?.commonName
  const name = certifiedName ?? displayName
  return {
    tier: subject === undefined ? 2 : subject.organization === undefined ? 1 : 1.5,
    ...(name === undefined ? {} : { display_name: name }),
    ...(subject?.organization === undefined ? {} : { organization: subject.organization }),
    ...(reputation === undefined ? {} : { reputation_score: reputation.score }),
  }
}

/** For an ACCEPT, which its sender signs with the certified key itself. */
export function shownInAccept(standing: OwnStanding | undefined): Omit<Shown, 'from'> {
  return shown(standing, [])
}

/** For a KNOCK. The session certificate is made here, for this KNOCK's EK_A alone; with certificates it draws 16 bytes. */
export function shownInKnock(
  standing: OwnStanding | undefined,
  { identity, ephemeralKey, expiresAt }: KnockSubject,
  { random, now }: SessionEnvironment,
): Omit<Shown, 'from'> {
  if (standing?.certificates === undefined) return shown(standing, [])
  const skew = CLOCK_SKEW_SECONDS * 1000
  const terms = { serial: newSerial(random), notBefore: now - skew, notAfter: expiresAt + skew }
  const session = issueSession(
    { publicKey: ephemeralKey, ...terms },
    { certificate: standing.certificates.agent, signing: identity.signing },
  )
  return shown(standing, [session])
}

function shown(standing: OwnStanding | undefined, below: readonly Uint8Array[]): Omit<Shown, 'from'> {
  const { certificates, reputation } = standing ?? {}
  const { agent, organization, proof } = certificates ?? {}
  const chain = [agent, organization].flatMap((certificate) =>
    certificate === undefined ? [] : [certificate],
  )
  return {
    ...(proof === undefined
      ? {}
      : {
          certificate_chain: [...below.map((der) => ({ der })), ...chain].map(certificateText),
          certificate_proof: proof,
        }),
    ...(reputation === undefined ? {} : { reputation_credential: reputation }),
  }
}
