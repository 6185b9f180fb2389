/**
 * The organisations that this home's owner agreed to be a member of, in `joined.json`. A certificate of any other counts for
 * nothing here, whoever shows it: an organisation can certify a key that it read in a record, and a registry can hand it on.
 * Beside the daemon's database, so that a command notes the decision while a daemon runs. None of it is secret.
 */
import type { Static } from 'typebox'
import {
  AgentMeshError,
  AmidText,
  formatTimestamp,
  parseJsonObject,
  PeerText,
  Timestamp,
  utf8Bytes,
  validate,
  Type,
  type Amid,
} from '../wire/index.ts'
import { amidFromPublicKey } from './amid.ts'
import type { Certificate } from './certificates/index.ts'
import type { Home } from './home.ts'

const FILE = 'joined.json'
const MAX_FILE_BYTES = 64 * 1024
/** An agent is in one at a time; the owner is not asked to tidy up before. */
const MAX_JOINED = 64

/** `amid` decides; the name is for whoever reads the file. */
const Joined = Type.Object({ amid: AmidText, name: PeerText(64), joined_at: Timestamp })
const JoinedFile = Type.Object({
  version: Type.Literal(1),
  organizations: Type.Array(Joined, { maxItems: MAX_JOINED }),
})

/** Whose key an organisation's certificate certifies. */
export function organizationAmid({ publicKey }: Certificate): Amid {
  return amidFromPublicKey(publicKey.bytes)
}

/** @throws HOME_DAMAGED */
function read(home: Home): Static<typeof Joined>[] {
  const bytes = home.readFile(FILE)
  if (bytes === undefined) return []
  try {
    return validate(JoinedFile, parseJsonObject(bytes, MAX_FILE_BYTES)).organizations
  } catch (cause) {
    throw new AgentMeshError('HOME_DAMAGED', `${FILE} is not in form`, { cause })
  }
}

/** @throws HOME_DAMAGED, HOME_UNSAFE, HOME_FAILED */
export function hasJoined(home: Home, organization: Certificate): boolean {
  const amid = organizationAmid(organization)
  return read(home).some((joined) => joined.amid === amid)
}

/**
 * Notes that the owner agrees. Again changes nothing.
 *
 * @param now milliseconds since the epoch
 * @throws HOME_DAMAGED, HOME_UNSAFE, HOME_FAILED
 */
export function noteJoined(home: Home, organization: Certificate, now: number): void {
  if (hasJoined(home, organization)) return
  const amid = organizationAmid(organization)
  const joined = { amid, name: organization.subject.organization ?? amid, joined_at: formatTimestamp(now) }
  const file = { version: 1, organizations: [...read(home), joined].slice(-MAX_JOINED) } as const
  home.writeFile(FILE, utf8Bytes(`${JSON.stringify(validate(JoinedFile, file), null, 2)}\n`))
}
