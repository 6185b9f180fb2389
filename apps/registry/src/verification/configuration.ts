/**
 * The providers file: where people can vouch for agents at this registry, with the secrets it shows there. Read once, at
 * start; a mistake in it keeps the registry from starting and is named.
 *
 *     {
 *       "providers": [
 *         { "type": "google", "client_id": "...", "client_secret": "..." },
 *         { "type": "oidc", "name": "work", "issuer": "https://id.example.org", "client_id": "...", "client_secret": "..." },
 *         { "type": "github", "client_id": "...", "client_secret": "...", "device": true },
 *         { "type": "apple", "client_id": "...", "team_id": "...", "key_id": "...", "private_key": "-----BEGIN ..." },
 *         { "type": "email", "from": "agents@example.org", "smtp": { "host": "mail.example.org" } }
 *       ]
 *     }
 */
import { readFileSync } from 'node:fs'
import { AgentMeshError, parseJsonObject, validate, Type } from '@agentmesh/sdk/wire'
import type { Static, TObject, TSchema } from 'typebox'
import { isProviderUrl } from './bounded-fetch.ts'
import { EmailProvider, parseAddress } from './email.ts'
import { GithubProvider } from './github-provider.ts'
import type { OidcProvider } from './oidc-provider.ts'
import type { Provider } from './provider.ts'

const MAX_FILE_BYTES = 256 * 1024
const MAX_PROVIDERS = 32
const GOOGLE_ISSUER = 'https://accounts.google.com'

const Name = Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,31}$' }))
const Text = Type.String({ minLength: 1, maxLength: 4096 })
const Flag = Type.Optional(Type.Boolean())

const Google = Type.Object({
  type: Type.Literal('google'),
  name: Name,
  client_id: Text,
  client_secret: Text,
  device: Flag,
})
const Oidc = Type.Object({
  type: Type.Literal('oidc'),
  name: Name,
  issuer: Text,
  client_id: Text,
  client_secret: Type.Optional(Text),
  device: Flag,
  return_to: Type.Optional(Type.Enum(['owner', 'registry'])),
})
const Apple = Type.Object({
  type: Type.Literal('apple'),
  name: Name,
  client_id: Text,
  team_id: Type.String({ pattern: '^[A-Z0-9]{10}$' }),
  key_id: Type.String({ pattern: '^[A-Z0-9]{10}$' }),
  private_key: Text,
})
const Github = Type.Object({
  type: Type.Literal('github'),
  name: Name,
  client_id: Text,
  client_secret: Text,
  url: Type.Optional(Text),
  api_url: Type.Optional(Text),
  device: Flag,
})
const Email = Type.Object({
  type: Type.Literal('email'),
  name: Name,
  from: Text,
  smtp: Type.Object({
    host: Type.String({ pattern: '^[A-Za-z0-9.:-]{1,253}$' }),
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    security: Type.Optional(Type.Enum(['tls', 'starttls', 'none'])),
    user: Type.Optional(Text),
    password: Type.Optional(Text),
  }),
})
const BY_TYPE = { google: Google, oidc: Oidc, apple: Apple, github: Github, email: Email }
type Entry = Static<(typeof BY_TYPE)[keyof typeof BY_TYPE]>

const File = Type.Object({
  providers: Type.Array(Type.Object({ type: Type.String() }), { minItems: 1, maxItems: MAX_PROVIDERS }),
})

export type AnyProvider = Provider | EmailProvider

export interface SettingsContext {
  /** Longest life of a verification. */
  readonly maxSeconds: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** @throws MALFORMED naming the file and what is wrong in it; never a secret */
export async function readProviders(
  path: string,
  context: SettingsContext,
): Promise<ReadonlyMap<string, AnyProvider>> {
  try {
    return await parseProviders(readFileSync(path), context)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new AgentMeshError('MALFORMED', `Providers file ${path}: ${why}`, {
      operation: 'read providers',
      cause,
    })
  }
}

async function parseProviders(
  bytes: Uint8Array,
  context: SettingsContext,
): Promise<ReadonlyMap<string, AnyProvider>> {
  const raw = parseJsonObject(bytes, MAX_FILE_BYTES)
  onlyKnown(File, raw, 'the file')
  const file = validate(File, raw)
  const providers = new Map<string, AnyProvider>()
  for (const [index, entry] of file.providers.entries()) {
    const place = `providers[${index}] (${entry.type})`
    const provider = await within(place, () => makeProvider(readEntry(entry, place), context))
    if (providers.has(provider.name))
      throw new Error(`${place}: the name ${provider.name} is taken; give it a name`)
    providers.set(provider.name, provider)
  }
  return providers
}

function readEntry(entry: { readonly type: string }, place: string): Entry {
  if (!Object.hasOwn(BY_TYPE, entry.type)) {
    throw new Error(`type is one of ${Object.keys(BY_TYPE).join(', ')}`)
  }
  const schema = BY_TYPE[entry.type as keyof typeof BY_TYPE]
  onlyKnown(schema, entry, place)
  return validate<TSchema>(schema, entry) as Entry
}

/** A misspelt field must not pass for one that was left out. */
function onlyKnown(schema: TObject, value: object, place: string): void {
  for (const [field, content] of Object.entries(value) as [string, unknown][]) {
    const known = (schema.properties as Record<string, TObject>)[field]
    if (known === undefined) throw new Error(`${field} is no field of ${place}`)
    if (known.properties !== undefined && typeof content === 'object' && content !== null) {
      onlyKnown(known, content, `${place} ${field}`)
    }
  }
}

async function within<T>(place: string, work: () => Promise<T> | T): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new Error(`${place}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
}

/** What a provider is made of is loaded with the first one: many registries have none. */
async function makeProvider(entry: Entry, context: SettingsContext): Promise<AnyProvider> {
  const name = entry.name ?? entry.type
  const { maxSeconds } = context
  switch (entry.type) {
    case 'google':
    case 'oidc':
    case 'apple':
      return makeOidcProvider(entry, name, context)
    case 'github':
      return new GithubProvider({
        name,
        clientId: entry.client_id,
        clientSecret: entry.client_secret,
        url: webAddress('url', entry.url ?? 'https://github.com'),
        apiUrl: webAddress('api_url', entry.api_url ?? 'https://api.github.com'),
        ways: waysOf(entry.device),
        maxSeconds,
      })
    case 'email': {
      const { host, port, security = 'starttls', user, password } = entry.smtp
      if ((user === undefined) !== (password === undefined))
        throw new Error('smtp has user and password, or neither')
      const { createTransport } = await import('nodemailer')
      const options = {
        name,
        from: parseAddress(entry.from).mailbox,
        smtp: {
          host,
          port: port ?? (security === 'tls' ? 465 : 587),
          security,
          ...(user === undefined ? {} : { user }),
          ...(password === undefined ? {} : { password }),
        },
      }
      return new EmailProvider(options, createTransport)
    }
  }
}

async function makeOidcProvider(
  entry: Extract<Entry, { type: 'google' | 'oidc' | 'apple' }>,
  name: string,
  context: SettingsContext,
): Promise<OidcProvider> {
  const [oidc, { OidcProvider: Provider }, { APPLE_ISSUER, appleAuthentication }] = await Promise.all([
    import('openid-client'),
    import('./oidc-provider.ts'),
    import('./apple.ts'),
  ])
  switch (entry.type) {
    case 'google':
      return new Provider({
        ...context,
        name,
        type: 'google',
        issuer: GOOGLE_ISSUER,
        clientId: entry.client_id,
        clientAuthentication: oidc.ClientSecretPost(entry.client_secret),
        ways: waysOf(entry.device),
        returnsToRegistry: false,
      })
    case 'oidc':
      return new Provider({
        ...context,
        name,
        type: 'oidc',
        issuer: webAddress('issuer', entry.issuer),
        clientId: entry.client_id,
        clientAuthentication:
          entry.client_secret === undefined ? oidc.None() : oidc.ClientSecretPost(entry.client_secret),
        ways: waysOf(entry.device),
        returnsToRegistry: entry.return_to === 'registry',
      })
    case 'apple':
      return new Provider({
        ...context,
        name,
        type: 'apple',
        issuer: APPLE_ISSUER,
        clientId: entry.client_id,
        clientAuthentication: await appleAuthentication(
          {
            clientId: entry.client_id,
            teamId: entry.team_id,
            keyId: entry.key_id,
            privateKey: entry.private_key,
          },
          APPLE_ISSUER,
          context.now,
        ),
        ways: waysOf(false),
        returnsToRegistry: true,
      })
  }
}

function waysOf(device: boolean | undefined): readonly ('browser' | 'device')[] {
  return device === true ? ['browser', 'device'] : ['browser']
}

function webAddress(field: string, text: string): string {
  if (!isProviderUrl(text)) throw new Error(`${field} is an https URL (http only on this machine)`)
  return text
}
