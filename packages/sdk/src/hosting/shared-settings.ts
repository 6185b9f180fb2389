/** Settings that both servers have. */
import { Type } from '../wire/index.ts'
import type { Static } from 'typebox'
import { LOG_LEVELS } from './log-privacy.ts'
import { readTlsPair, type TlsFiles } from './tls-files.ts'

export const TlsSettings = Type.Object({
  certificate: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'PEM file, the certificate and then the intermediate ones: serves TLS; read again when it changes',
    }),
  ),
  key: Type.Optional(Type.String({ minLength: 1, description: 'PEM file with its private key' })),
})

type TlsSettings = Static<typeof TlsSettings>

export const TrustedProxies = Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
  default: [] as string[],
  maxItems: 64,
  option: 'trusted-proxy',
  description: 'address of a proxy whose X-Forwarded-For is believed, or a network such as 10.0.0.0/8',
})

export const LogLevel = Type.Enum([...LOG_LEVELS], {
  default: 'info' as const,
  description: 'what to log on stderr',
})

export const MetricsAddress = Type.Optional(
  Type.String({
    minLength: 3,
    maxLength: 300,
    description: 'host:port for /metrics, /healthz and /readyz; /metrics is nowhere else then',
  }),
)

/** @throws Error for one file without the other, and for a pair that cannot be taken */
export function checkTls(settings: TlsSettings | undefined, now: number): void {
  if ((settings?.certificate === undefined) !== (settings?.key === undefined)) {
    throw new Error('certificate and key are set both, or neither')
  }
  const files = tlsFiles(settings)
  if (files !== undefined) readTlsPair(files, now)
}

export function tlsFiles(settings: TlsSettings | undefined): TlsFiles | undefined {
  if (settings?.certificate === undefined || settings.key === undefined) return undefined
  return { certificate: settings.certificate, key: settings.key }
}
