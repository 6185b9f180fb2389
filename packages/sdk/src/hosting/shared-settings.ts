/** Settings that both servers have, what is checked of them beyond their form, and what the servers are handed of them. */
import { Type } from '../wire/index.ts'
import type { Static, TInteger } from 'typebox'
import { TrustedAddresses } from './client-address.ts'
import { LOG_LEVELS } from './log-privacy.ts'
import { splitAddress } from './operator-port.ts'
import { readTlsPair, type TlsFiles } from './tls-files.ts'

const TlsSettings = Type.Object({
  certificate: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'PEM file, the certificate and then the intermediate ones: serves TLS; read again when it changes',
    }),
  ),
  key: Type.Optional(Type.String({ minLength: 1, description: 'PEM file with its private key' })),
})

/** @param drainSeconds what a server does in that time differs, and so its default */
export function sharedSettings(drainSeconds: TInteger) {
  return {
    tls: Type.Optional(TlsSettings),
    trustedProxies: Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
      default: [] as string[],
      maxItems: 64,
      option: 'trusted-proxy',
      description: 'address of a proxy whose X-Forwarded-For is believed, or a network such as 10.0.0.0/8',
    }),
    drainSeconds,
    metricsAddress: Type.Optional(
      Type.String({
        minLength: 3,
        maxLength: 300,
        description: 'host:port for /metrics, /healthz and /readyz; /metrics is nowhere else then',
      }),
    ),
    logLevel: Type.Enum([...LOG_LEVELS], {
      default: 'info' as const,
      description: 'what to log on stderr',
    }),
  }
}

interface SharedSettings {
  readonly tls?: Static<typeof TlsSettings>
  readonly trustedProxies: readonly string[]
  readonly drainSeconds: number
  readonly metricsAddress?: string
}

/**
 * For `problemsOf`.
 *
 * @param now milliseconds since the epoch: a certificate must hold then
 */
export function sharedChecks(
  { tls, trustedProxies, metricsAddress }: SharedSettings,
  now: number,
): Readonly<Record<string, () => unknown>> {
  return {
    tls: () => checkTls(tls, now),
    metrics_address: () => (metricsAddress === undefined ? undefined : splitAddress(metricsAddress)),
    trusted_proxies: () => new TrustedAddresses(trustedProxies),
  }
}

/** What stands in the options of both servers. */
export interface ServerOptions {
  /** Address to listen on; 127.0.0.1 when not given. */
  readonly host?: string
  /** 0 or nothing for any free port. */
  readonly port?: number
  /** Serves TLS with these; plain text without. */
  readonly tls?: TlsFiles
  /** Addresses and networks of proxies whose `X-Forwarded-For` is believed, for the limits by address. */
  readonly trustedProxies?: readonly string[]
  /** `host:port` where /metrics, /healthz and /readyz are; /metrics is nowhere else then. */
  readonly metricsAddress?: string
  /** How long `drain` gives clients to go elsewhere. */
  readonly drainSeconds?: number
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

export function sharedOptions(settings: SharedSettings): ServerOptions {
  const { trustedProxies, drainSeconds, metricsAddress } = settings
  const tls = tlsFiles(settings.tls)
  return {
    trustedProxies,
    drainSeconds,
    ...(metricsAddress === undefined ? {} : { metricsAddress }),
    ...(tls === undefined ? {} : { tls }),
  }
}

function checkTls(settings: SharedSettings['tls'], now: number): void {
  if ((settings?.certificate === undefined) !== (settings?.key === undefined)) {
    throw new Error('certificate and key are set both, or neither')
  }
  const files = tlsFiles(settings)
  if (files !== undefined) readTlsPair(files, now)
}

function tlsFiles(settings: SharedSettings['tls']): TlsFiles | undefined {
  if (settings?.certificate === undefined || settings.key === undefined) return undefined
  return { certificate: settings.certificate, key: settings.key }
}
