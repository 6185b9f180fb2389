/** What an operator of a registry may set: the one source of options, variables, file keys, help and docs/operators.md. */
import { Type } from '@agentmesh/sdk/wire'
import {
  checkTls,
  LogLevel,
  MetricsAddress,
  problemsOf,
  Seconds,
  splitAddress,
  TlsSettings,
  tlsFiles,
  TrustedAddresses,
  TrustedProxies,
  type ServerDefinition,
} from '@agentmesh/sdk/hosting'
import type { Static } from 'typebox'
import { parseAdministrators } from './admin/index.ts'
import { findAuthority } from './authority/authority-keys.ts'
import { LimitSettings } from './limits.ts'
import { parsePublicUrl, type RegistryOptions } from './server.ts'
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
      option: false,
      secret: true,
      description: "of the authority's keys",
    }),
  ),
  adminTokens: Type.Optional(
    Type.String({
      minLength: 1,
      variable: 'AGENTMESH_REGISTRY_ADMIN_TOKEN',
      option: false,
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
  tls: Type.Optional(TlsSettings),
  trustedProxies: TrustedProxies,
  drainSeconds: Seconds(
    0,
    'after SIGTERM: /readyz says no for so long before the port closes, for a balancer to see it',
    0,
    3_600,
  ),
  metricsAddress: MetricsAddress,
  logLevel: LogLevel,
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
  const { adminTokens, dnsResolvers, limit, providers, publicUrl, trustedProxies } = settings
  return problemsOf({
    admin_tokens: () => parseAdministrators(adminTokens),
    public_url: () => (publicUrl === undefined ? undefined : parsePublicUrl(publicUrl)),
    tls: () => checkTls(settings.tls, Date.now()),
    metrics_address: () =>
      settings.metricsAddress === undefined ? undefined : splitAddress(settings.metricsAddress),
    trusted_proxies: () => new TrustedAddresses(trustedProxies),
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
  const { dnsResolvers, trustedProxies, limit } = settings
  const tls = tlsFiles(settings.tls)
  const authority = findAuthority(ca, data, caPassphrase)
  return {
    host,
    port,
    trustedProxies,
    drainSeconds: settings.drainSeconds,
    limits: limit,
    ...(settings.metricsAddress === undefined ? {} : { metricsAddress: settings.metricsAddress }),
    ...(tls === undefined ? {} : { tls }),
    ...(publicUrl === undefined ? {} : { publicUrl }),
    ...(authority === undefined ? {} : { authority }),
    ...(dnsResolvers === undefined ? {} : { resolvers: dnsResolvers }),
    ...(adminTokens === undefined ? {} : { adminTokens }),
    ...(providers === undefined ? {} : { providersPath: providers }),
    ...(databaseUrl === undefined ? { dataPath: data } : { databaseUrl }),
  }
}
