/**
 * What an organisation keeps of its own certificates, in `organization.json` of its home: whom it certified, whom it revoked,
 * and the number of its last revocation list. None of it is secret.
 */
import type { Static } from 'typebox'
import type { KeyPair } from '../crypto/signing.ts'
import {
  AgentMeshError,
  AmidText,
  CertificateText,
  CLOCK_SKEW_SECONDS,
  DomainText,
  parseJsonObject,
  parseTimestamp,
  PeerText,
  Timestamp,
  utf8Bytes,
  validate,
  Type,
} from '../wire/index.ts'
import {
  certificateFromText,
  issueCrl,
  parseCrl,
  type Crl,
  type RevocationReason,
} from './certificates/index.ts'
import type { Home } from './home.ts'

const FILE = 'organization.json'
const MAX_FILE_BYTES = 1024 * 1024
const SerialText = Type.String({ pattern: '^[0-9a-f]{2,40}$' })

const Issued = Type.Object({
  serial: SerialText,
  amid: AmidText,
  role: Type.Optional(PeerText(64)),
  display_name: Type.Optional(PeerText(64)),
  issued_at: Timestamp,
  expires_at: Timestamp,
  revoked_at: Type.Optional(Timestamp),
  reason: Type.Optional(Type.String({ maxLength: 32 })),
})

const OrganizationFile = Type.Object({
  version: Type.Literal(1),
  domain: DomainText,
  name: PeerText(64),
  certificate: Type.Optional(CertificateText),
  list_number: Type.Integer({ minimum: 0 }),
  /** Until when the list holds that the registry took last. */
  list_until: Type.Optional(Timestamp),
  issued: Type.Array(Issued),
})
export type OrganizationFile = Static<typeof OrganizationFile>

/** Undefined when this home is no organisation. @throws HOME_DAMAGED */
export function readOrganization(home: Home): OrganizationFile | undefined {
  const bytes = home.readFile(FILE)
  if (bytes === undefined) return undefined
  try {
    return validate(OrganizationFile, parseJsonObject(bytes, MAX_FILE_BYTES))
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', `${FILE} is not in form`, { cause })
  }
}

/**
 * Changes the file as it is at this moment: a daemon and a command may both keep it.
 *
 * @returns the file as it is then; undefined when this home is no organisation
 * @throws HOME_DAMAGED, HOME_FAILED
 */
export function updateOrganization(
  home: Home,
  change: (file: OrganizationFile) => OrganizationFile,
): OrganizationFile | undefined {
  const file = readOrganization(home)
  if (file === undefined) return undefined
  const changed = change(file)
  writeOrganization(home, changed)
  return changed
}

/** How long agents may rely on a list of an organisation. */
const LIST_LIFETIME = 30 * 86_400_000
/** Beyond its end, and some time for clocks, nobody asks for a certificate. */
const KEPT_AFTER_END = 2 * 86_400_000

/**
 * The organisation's next revocation list: its number is noted before anybody sees it, since a number is used once.
 *
 * @param now milliseconds since the epoch
 * @throws ORGANIZATION_UNKNOWN without a certificate; HOME_DAMAGED, HOME_FAILED
 */
export function nextOrganizationList(home: Home, signing: KeyPair, now: number): Crl {
  const file = updateOrganization(home, (before) => ({ ...before, list_number: before.list_number + 1 }))
  if (file?.certificate === undefined) throw new AgentMeshError('ORGANIZATION_UNKNOWN')
  const entries = file.issued.flatMap(({ serial, revoked_at, expires_at, reason = 'unspecified' }) =>
    revoked_at === undefined || parseTimestamp(expires_at) <= now - KEPT_AFTER_END
      ? []
      : [{ serial, revokedAt: parseTimestamp(revoked_at), reason: reason as RevocationReason }],
  )
  const dates = { thisUpdate: now - CLOCK_SKEW_SECONDS * 1000, nextUpdate: now + LIST_LIFETIME }
  const issuer = { certificate: certificateFromText(file.certificate), signing }
  return parseCrl(issueCrl({ number: file.list_number, entries, ...dates }, issuer))
}

export function writeOrganization(home: Home, file: OrganizationFile): void {
  home.writeFile(FILE, utf8Bytes(`${JSON.stringify(validate(OrganizationFile, file), null, 2)}\n`))
}
