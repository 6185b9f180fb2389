/**
 * `agentmesh relay` and `agentmesh registry`: a server in the foreground, until SIGINT or SIGTERM. Each loads its own server
 * only: the other one would double its memory.
 */
import { AgentMeshError, isAgentMeshError, RELAY_PATH } from '@agentmesh/sdk/wire'
import { jsonLine, note, print, type Context } from '../output.ts'
import { caPassphrase } from './registry-init.ts'

export interface RelayCommandOptions {
  host: string
  port: number
  data: string
  name?: readonly string[]
  logLevel: LogLevel
}

export interface RegistryCommandOptions {
  host: string
  port: number
  data: string
  databaseUrl?: string
  publicUrl?: string
  providers?: string
  ca?: string
  dnsResolver?: readonly string[]
  trustedProxy?: readonly string[]
  logLevel: LogLevel
}

export async function relay(context: Context, options: RelayCommandOptions): Promise<void> {
  const { startRelay } = await import('@agentmesh/relay')
  const { host, port, data, name, logLevel } = options
  const running = await started(
    startRelay({
      host,
      port,
      dataPath: data,
      logger: serverLog(logLevel),
      ...(name === undefined ? {} : { names: name }),
    }),
    `${host}:${port}`,
  )
  const url = `${running.url}${RELAY_PATH}`
  await serve(context, { url, port: running.port, names: running.relayIds }, `Relay at ${url}`, running)
}

export async function registry(context: Context, options: RegistryCommandOptions): Promise<void> {
  const { findAuthority, startRegistry } = await import('@agentmesh/registry')
  const { host, port, data, databaseUrl, publicUrl, providers, trustedProxy, logLevel } = options
  const { ca, dnsResolver } = options
  const authority = findAuthority(ca === '' ? undefined : ca, data, caPassphrase())
  const adminTokens = process.env['AGENTMESH_REGISTRY_ADMIN_TOKEN']
  const common = {
    host,
    port,
    logger: serverLog(logLevel),
    ...(adminTokens === undefined ? {} : { adminTokens }),
    trustedProxies: trustedProxy ?? [],
    ...(publicUrl === undefined ? {} : { publicUrl }),
    ...(authority === undefined ? {} : { authority }),
    ...(dnsResolver === undefined ? {} : { resolvers: dnsResolver }),
    ...(providers === undefined || providers === '' ? {} : { providersPath: providers }),
  }
  // A variable that is set and empty names no database.
  const database = databaseUrl === undefined || databaseUrl === '' ? { dataPath: data } : { databaseUrl }
  const running = await started(startRegistry({ ...common, ...database }), `${host}:${port}`)
  const facts = { url: running.url, port: running.port }
  const certifying = authority === undefined ? facts : { ...facts, fingerprint: authority.fingerprint }
  await serve(context, certifying, `Registry at ${running.url}`, running)
}

/** @throws AgentMeshError also for what the system said, such as a port that is taken */
async function started<T>(starting: Promise<T>, where: string): Promise<T> {
  try {
    return await starting
  } catch (cause) {
    if (isAgentMeshError(cause)) throw cause
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new AgentMeshError('STORE_FAILED', `Cannot serve at ${where}: ${why}`, {
      operation: 'start server',
      cause,
    })
  }
}

async function serve(
  context: Context,
  facts: object,
  text: string,
  server: { close(): Promise<void> },
): Promise<void> {
  const end = new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
  print(context.json ? jsonLine(facts) : text)
  await end
  await server.close()
}

const SEVERITY = { silent: 0, fatal: 1, error: 1, warn: 2, info: 3 } as const
export type LogLevel = Exclude<keyof typeof SEVERITY, 'fatal'>

/** A server's log on stderr, one JSON value a line, in the form servers expect of their logger. */
function serverLog(level: LogLevel) {
  const quiet = (): void => {}
  const lineOf = (name: 'fatal' | 'error' | 'warn' | 'info') =>
    SEVERITY[name] <= SEVERITY[level] ? logLine(name) : quiet
  const log = {
    level,
    fatal: lineOf('fatal'),
    error: lineOf('error'),
    warn: lineOf('warn'),
    info: lineOf('info'),
    debug: quiet,
    trace: quiet,
    silent: quiet,
    child: () => log,
  }
  return log
}

function logLine(level: string): (facts: unknown, message?: string) => void {
  return (facts, message) => {
    const at = new Date().toISOString()
    note(jsonLine({ at, level, message: message ?? String(facts), ...readable(facts) }))
  }
}

function readable(facts: unknown): object {
  if (typeof facts !== 'object' || facts === null) return {}
  return Object.fromEntries(
    Object.entries(facts).map(([name, value]: [string, unknown]) => [
      name,
      value instanceof Error ? (value.stack ?? value.message) : value,
    ]),
  )
}
