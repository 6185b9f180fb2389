/**
 * The registry as a program of its own:
 *
 *     node main.js [--host 127.0.0.1] [--port 7700] [--data agentmesh-registry.db] [--database-url URL] [--public-url URL]
 *         [--providers FILE] [--ca DIR] [--dns-resolver IP[:PORT]]... [--trusted-proxy IP]... [--log-level info]
 *
 * Options, their variables (AGENTMESH_REGISTRY_HOST, _PORT, _DATA, _PROVIDERS, _CA, AGENTMESH_CA_PASSPHRASE, DATABASE_URL) and
 * defaults are those of `agentmesh registry`. One JSON line on stdout says where it listens; the log goes to stderr. SIGINT
 * and SIGTERM end it in order.
 */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { findAuthority } from './authority/authority-keys.ts'
import { startRegistry } from './server.ts'

async function main(): Promise<void> {
  const {
    AGENTMESH_REGISTRY_HOST: host = '127.0.0.1',
    AGENTMESH_REGISTRY_PORT: port = '7700',
    AGENTMESH_REGISTRY_DATA: data = 'agentmesh-registry.db',
    AGENTMESH_REGISTRY_PROVIDERS: providers = '',
    AGENTMESH_REGISTRY_CA: ca = '',
    AGENTMESH_CA_PASSPHRASE: passphrase = '',
    AGENTMESH_REGISTRY_ADMIN_TOKEN: adminTokens = '',
    DATABASE_URL: database = '',
  } = process.env
  const { values } = parseArgs({
    options: {
      host: { type: 'string', default: host },
      port: { type: 'string', default: port },
      data: { type: 'string', default: data },
      'database-url': { type: 'string', default: database },
      'public-url': { type: 'string' },
      providers: { type: 'string', default: providers },
      ca: { type: 'string', default: ca },
      'dns-resolver': { type: 'string', multiple: true, default: [] },
      'trusted-proxy': { type: 'string', multiple: true, default: [] },
      'log-level': { type: 'string', default: 'info' },
    },
  })
  if (!/^\d{1,5}$/.test(values.port) || Number(values.port) > 65_535) throw new Error('--port is 0 to 65535')
  const logger = pino({ level: values['log-level'] }, pino.destination(2))
  const databaseUrl = values['database-url']
  const publicUrl = values['public-url']
  const authority = findAuthority(
    values.ca === '' ? undefined : values.ca,
    values.data,
    passphrase === '' ? undefined : passphrase,
  )
  const resolvers = values['dns-resolver']
  const registry = await startRegistry({
    host: values.host,
    port: Number(values.port),
    trustedProxies: values['trusted-proxy'],
    logger,
    ...(publicUrl === undefined ? {} : { publicUrl }),
    ...(authority === undefined ? {} : { authority }),
    ...(resolvers.length === 0 ? {} : { resolvers }),
    ...(adminTokens === '' ? {} : { adminTokens }),
    ...(values.providers === '' ? {} : { providersPath: values.providers }),
    ...(databaseUrl === '' ? { dataPath: values.data } : { databaseUrl }),
  })
  process.stdout.write(`${JSON.stringify({ url: registry.url, port: registry.port })}\n`)

  let closing = false
  const stop = () => {
    if (closing) return
    closing = true
    registry.close().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'close failed')
        process.exit(1)
      },
    )
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
}

main().catch((error: unknown) => {
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ''
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}${cause}\n`)
  process.exit(1)
})
