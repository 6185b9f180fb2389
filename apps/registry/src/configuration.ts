/** What an operator of a registry may set: the one source of options, variables, file keys, help and docs/operators.md. */
import { Type } from '@agentmesh/sdk/wire'
import {
  problemsOf,
  Seconds,
  sharedChecks,
  sharedOptions,
  sharedSettings,
  type ServerDefinition,
} from '@agentmesh/sdk/hosting'
import type { Static } from 'typebox'
import { parseAdministrators } from './admin/index.ts'
import { findAuthority } from './authority/authority-keys.ts'
import { LimitSettings } from './limits.ts'
import { parsePublicUrl } from './public-address.ts'
import type { RegistryOptions } from './server.ts'
import { readProviders } from './verification/configuration.ts'

const RegistrySettings = Type.Object({
  host: Type.String({ default: '127.0.0.1', minLength: 1, description: 'address to listen on' }),
  port: Type.Integer({ default: 7700, minimum: 0, maximum: 65_535, description: 'port; 0: any free one' }),
  data: Type.String({ default: 'agentmesh-registry.db', minLength: 1, description: 'SQLite file' }),
  databaseUrl: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'DATABASE_URL',
      secret: true,
      description: 'PostgreSQL in place of the file; several registries may share one database',
    }),
  ),
  publicUrl: Type.Optional(
    Type.String({
      pattern: '^https?://[^/?#]+/?$',
      description: 'URL agents use, when not the address: https://registry.example.org, without a path',
    }),
  ),
  providers: Type.Optional(
    Type.String({ minLength: 1, description: 'file that says where people can vouch for agents' }),
  ),
  ca: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'folder of the certificate authority; else the one beside the database, if there',
    }),
  ),
  caPassphrase: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'AGENTMESH_CA_PASSPHRASE',
      secret: true,
      description: "of the authority's keys",
    }),
  ),
  adminTokens: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'AGENTMESH_REGISTRY_ADMIN_TOKEN',
      secret: true,
      description:
        'name:token of every operator, separated by commas; the admin endpoints are closed without',
    }),
  ),
  dnsResolvers: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
      minItems: 1,
      maxItems: 16,
      option: 'dns-resolver',
      description: 'IP[:port] where domains of organisations are checked: two or more, else public ones',
    }),
  ),
  ...sharedSettings(
    Seconds(
      0,
      'after SIGTERM: /readyz says no for so long before the port closes, for a balancer to see it',
      0,
      3_600,
    ),
  ),
  limit: LimitSettings,
})
export type RegistrySettings = Static<typeof RegistrySettings>

export const REGISTRY_DEFINITION: ServerDefinition<typeof RegistrySettings> = {
  name: 'registry',
  prefix: 'AGENTMESH_REGISTRY',
  schema: RegistrySettings,
}

/** Mistakes that a setting's form does not show. */
export async function checkRegistrySettings(settings: RegistrySettings): Promise<readonly string[]> {
  const { adminTokens, dnsResolvers, limit, providers, publicUrl } = settings
  return problemsOf({
    ...sharedChecks(settings, Date.now()),
    admin_tokens: () => parseAdministrators(adminTokens),
    public_url: () => (publicUrl === undefined ? undefined : parsePublicUrl(publicUrl)),
    dns_resolvers: () => {
      if (dnsResolvers !== undefined && new Set(dnsResolvers).size < 2)
        throw new Error('two or more are needed')
    },
    providers: async () => {
      const context = { maxSeconds: limit.verificationSeconds, now: Date.now }
      if (providers !== undefined) await readProviders(providers, context)
    },
  })
}

/** @throws what `findAuthority` throws */
export function registryOptions(settings: RegistrySettings): RegistryOptions {
  const { host, port, data, databaseUrl, publicUrl, providers, ca, caPassphrase, adminTokens } = settings
  const { dnsResolvers, limit } = settings
  const authority = findAuthority(ca, data, caPassphrase)
  return {
    host,
    port,
    ...sharedOptions(settings),
    limits: limit,
    ...(publicUrl === undefined ? {} : { publicUrl }),
    ...(authority === undefined ? {} : { authority }),
    ...(dnsResolvers === undefined ? {} : { resolvers: dnsResolvers }),
    ...(adminTokens === undefined ? {} : { adminTokens }),
    ...(providers === undefined ? {} : { providersPath: providers }),
    ...(databaseUrl === undefined ? { dataPath: data } : { databaseUrl }),
  }
}
