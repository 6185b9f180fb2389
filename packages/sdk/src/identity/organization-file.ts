/**
 * What an organisation keeps of its own certificates, in `organization.json` of its home: whom it certified, whom it revoked,
 * and the number of its last revocation list. None of it is secret.
 */
import { Type, type Static } from 'typebox'
import {
  AgentMeshError,
  AmidText,
  CertificateText,
  DomainText,
  parseJsonObject,
  PeerText,
  Timestamp,
  utf8Bytes,
  validate,
} from '../wire/index.ts'
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

export function writeOrganization(home: Home, file: OrganizationFile): void {
  home.writeFile(FILE, utf8Bytes(`${JSON.stringify(validate(OrganizationFile, file), null, 2)}\n`))
}
