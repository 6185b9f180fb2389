/**
 * `agentmesh org`: an organisation and its fleet (tier 1.5). The organisation is this home's agent: its AMID proves the domain,
 * its key certifies. Registering and verifying ask the registry; issuing asks nobody.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { HttpRegistryClient, readConfig } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  checkAmid,
  Home,
  issueAgent,
  newSerial,
  noteJoined,
  nextOrganizationList,
  openIdentity,
  parseCertificate,
  readOrganization,
  readPublicIdentity,
  REVOCATION_REASONS,
  updateOrganization,
  writeOrganization,
  type HomeIdentity,
  type OrganizationFile,
} from '@agentmesh/sdk/identity'
import {
  AgentMeshError,
  CertificateRequest,
  CLOCK_SKEW_SECONDS,
  formatTimestamp,
  parseAmid,
  parseJsonObject,
  parseKey,
  parseTimestamp,
  validate,
  type Amid,
} from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { fields, print, show, table, type Context } from '../output.ts'
import { homePath, readPassphrase } from './shared.ts'

const DAY = 86_400_000
const MAX_DAYS = 30
const MAX_REQUEST_BYTES = 4096
const MAX_ISSUED_BYTES = 32_768

interface Keys {
  readonly home: Home
  readonly identity: HomeIdentity
}

async function openKeys(context: Context): Promise<Keys> {
  const home = Home.open(homePath(context))
  const passphrase = await readPassphrase({})
  return { home, identity: openIdentity(home, passphrase === undefined ? {} : { passphrase }) }
}

function clientOf({ home, identity }: Keys): HttpRegistryClient {
  return new HttpRegistryClient(readConfig(home).registry, identity, { now: Date.now, random: systemRandom })
}

/** @throws ORGANIZATION_UNKNOWN: this home is no organisation, or not a verified one */
function organizationOf(home: Home): OrganizationFile {
  const organization = readOrganization(home)
  if (organization === undefined) {
    throw new AgentMeshError(
      'ORGANIZATION_UNKNOWN',
      `${home.path} is no organisation: agentmesh org register <domain> --name NAME`,
    )
  }
  return organization
}

function certificateOf(home: Home): { organization: OrganizationFile; certificate: string } {
  const organization = organizationOf(home)
  if (organization.certificate === undefined) {
    throw new AgentMeshError('ORGANIZATION_UNKNOWN', 'The domain is not verified yet: agentmesh org verify')
  }
  return { organization, certificate: organization.certificate }
}

export async function orgRegister(
  context: Context,
  domain: string,
  options: { name: string },
): Promise<void> {
  const keys = await openKeys(context)
  const challenge = await clientOf(keys).registerOrganization(domain, options.name)
  const before = readOrganization(keys.home)
  const { name } = challenge.organization
  writeOrganization(keys.home, {
    ...(before?.domain === domain && before.name === name
      ? before
      : { version: 1, list_number: 0, issued: before?.issued ?? [] }),
    domain,
    name,
  })
  show(context, challenge, ({ record }) =>
    [
      'Put this record into the DNS, as it is:',
      '',
      `${record.name}. ${record.type} "${record.value}"`,
      '',
      `It is good until ${record.expires_at}. Then: agentmesh org verify`,
    ].join('\n'),
  )
}

export async function orgVerify(context: Context): Promise<void> {
  const keys = await openKeys(context)
  organizationOf(keys.home)
  const client = clientOf(keys)
  const record = await client.verifyOrganization()
  const { certificate } = record
  if (certificate === undefined) throw new AgentMeshError('REGISTRY_ANSWER_INVALID')
  updateOrganization(keys.home, (file) => ({ ...file, certificate }))
  // Agents do not trust a chain without a list of its issuer.
  await publishList(keys, client)
  show(context, record, () =>
    fields([
      ['organisation', `${record.name} (${record.domain})`],
      ['AMID', record.amid],
      ['certificate', `until ${formatTimestamp(certificateFromText(certificate).notAfter)}`],
    ]),
  )
}

/** What an agent hands to its organisation, so that it can be certified without anybody being asked. */
export function orgRequest(context: Context): void {
  const home = Home.open(homePath(context))
  const { amid, signing_public_key } = readPublicIdentity(home)
  const { display_name } = readConfig(home)
  const request: CertificateRequest = {
    type: 'certificate_request',
    amid,
    signing_public_key,
    ...(display_name === undefined ? {} : { display_name }),
  }
  print(JSON.stringify(request, null, context.json ? 0 : 2))
}

export interface IssueOptions {
  role?: string
  name?: string
  request?: string
  days?: number
  out?: string
}

export async function orgIssue(context: Context, text: string, options: IssueOptions): Promise<void> {
  const amid = parseAmid(text)
  const keys = await openKeys(context)
  const { certificate } = certificateOf(keys.home)
  const days = options.days ?? MAX_DAYS
  if (days > MAX_DAYS) throw new UsageError(`--days is at most ${MAX_DAYS}`)
  const asked = options.request === undefined ? undefined : readRequest(options.request, amid)
  const publicKey =
    asked?.publicKey ??
    parseKey('ed25519', (await clientOf(keys).lookup(amid)).public_keys.signing_public_key)
  const displayName = options.name ?? asked?.displayName
  const { role } = options
  const now = Date.now()
  const serial = newSerial(systemRandom)
  const notAfter = now + days * DAY
  const der = issueAgent(
    {
      serial,
      notBefore: now - CLOCK_SKEW_SECONDS * 1000,
      notAfter,
      publicKey,
      ...(displayName === undefined ? {} : { displayName }),
      ...(role === undefined ? {} : { role }),
    },
    { certificate: certificateFromText(certificate), signing: keys.identity.signing },
  )
  // Noted before it is shown: what was given out can be revoked.
  updateOrganization(keys.home, (file) => ({
    ...file,
    issued: [
      ...file.issued,
      {
        serial,
        amid,
        ...(role === undefined ? {} : { role }),
        ...(displayName === undefined ? {} : { display_name: displayName }),
        issued_at: formatTimestamp(now),
        expires_at: formatTimestamp(notAfter),
      },
    ],
  }))
  const chain = [certificateText(parseCertificate(der)), certificate]
  const issued = {
    amid,
    serial,
    expires_at: formatTimestamp(notAfter),
    chain,
  }
  if (options.out !== undefined)
    writeFileSync(options.out, `${JSON.stringify(issued, null, 2)}\n`, { flag: 'wx' })
  show(context, issued, () =>
    fields([
      ['agent', amid],
      ['serial', serial],
      ['until', issued.expires_at],
      ['chain', options.out ?? chain.join(' ')],
      ['in the log', 'once the agent’s owner agrees: agentmesh org join'],
    ]),
  )
}

/** The owner agrees to a certificate: this agent, and nobody else, brings it to the registry. */
export async function orgJoin(context: Context, path: string): Promise<void> {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new UsageError(`The certificate cannot be read: ${(error as Error).message}`)
  }
  const { chain } = parseJsonObject(bytes, MAX_ISSUED_BYTES)
  if (!Array.isArray(chain) || !chain.every((text) => typeof text === 'string'))
    throw new AgentMeshError('MALFORMED', 'The file is not what org issue --out writes')
  const keys = await openKeys(context)
  const [agent, organization] = chain.map(certificateFromText)
  if (agent === undefined || organization === undefined || chain.length !== 2)
    throw new AgentMeshError('MALFORMED', 'The file is not what org issue --out writes')
  if (agent.amid !== keys.identity.amid)
    throw new AgentMeshError('NOT_OWNER', 'The certificate is another agent’s')
  // Before the registry hears of it: the daemon asks there, and takes nothing that was not joined.
  noteJoined(keys.home, organization, Date.now())
  const { proof } = await clientOf(keys).submitCertificate(chain)
  show(context, { chain, proof }, () => 'Joined: the registry shows the organisation in this agent’s record.')
}

/** @throws AMID_MISMATCH, MALFORMED; UsageError when the file cannot be read */
function readRequest(path: string, amid: Amid): { publicKey: Uint8Array; displayName: string | undefined } {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new UsageError(`--request cannot be read: ${(error as Error).message}`)
  }
  const request = validate(CertificateRequest, parseJsonObject(bytes, MAX_REQUEST_BYTES), 'read a request')
  const publicKey = parseKey('ed25519', request.signing_public_key)
  if (request.amid !== amid) throw new AgentMeshError('AMID_MISMATCH', 'The request is another agent’s')
  checkAmid(amid, publicKey)
  return { publicKey, displayName: request.display_name }
}

export async function orgRevoke(context: Context, which: string, options: { reason: string }): Promise<void> {
  const reason = REVOCATION_REASONS.find((name) => name === options.reason)
  if (reason === undefined) throw new UsageError(`--reason is one of ${REVOCATION_REASONS.join(', ')}`)
  const keys = await openKeys(context)
  const { organization } = certificateOf(keys.home)
  const rows = organization.issued.filter(
    ({ amid, serial, revoked_at }) =>
      revoked_at === undefined && ([amid, serial] as string[]).includes(which),
  )
  if (rows.length === 0) {
    throw new AgentMeshError(
      'NOT_FOUND',
      'This organisation issued no such certificate that is not revoked yet',
    )
  }
  const revoked_at = formatTimestamp(Date.now())
  const serials = new Set(rows.map(({ serial }) => serial))
  updateOrganization(keys.home, (file) => ({
    ...file,
    issued: file.issued.map((row) => (serials.has(row.serial) ? { ...row, revoked_at, reason } : row)),
  }))
  await publishList(keys, clientOf(keys))
  show(
    context,
    { revoked: [...serials], reason },
    () => `Revoked, and told the registry: ${[...serials].join(', ')}`,
  )
}

export async function orgCrl(context: Context): Promise<void> {
  const keys = await openKeys(context)
  certificateOf(keys.home)
  const list = await publishList(keys, clientOf(keys))
  const facts = {
    number: list.number,
    entries: list.entries.size,
    next_update: formatTimestamp(list.nextUpdate),
  }
  show(
    context,
    facts,
    () => `List ${facts.number} with ${facts.entries} entries is good until ${facts.next_update}`,
  )
}

export function orgList(context: Context): void {
  const { issued } = organizationOf(Home.open(homePath(context)))
  const now = Date.now()
  const state = ({ revoked_at, reason = 'unspecified', expires_at }: (typeof issued)[number]): string =>
    revoked_at !== undefined ? `revoked: ${reason}` : parseTimestamp(expires_at) <= now ? 'expired' : 'good'
  const rows = issued.map((row) => ({ ...row, state: state(row) }))
  show(context, rows, () =>
    rows.length === 0
      ? 'No certificate was issued.'
      : table(
          ['AMID', 'name', 'role', 'serial', 'until', 'state'],
          rows.map((row) => [
            row.amid,
            row.display_name ?? '-',
            row.role ?? '-',
            row.serial,
            row.expires_at,
            row.state,
          ]),
        ),
  )
}

/** Signs the next revocation list and brings it to the registry; when that is away: agentmesh org crl. */
async function publishList({ home, identity }: Keys, client: HttpRegistryClient) {
  const list = nextOrganizationList(home, identity.signing, Date.now())
  await client.putCrl(list)
  updateOrganization(home, (file) => ({ ...file, list_until: formatTimestamp(list.nextUpdate) }))
  return list
}
