/**
 * `agentmesh relay` and `agentmesh registry`: a server in the foreground, until SIGINT or SIGTERM. Each loads its own server
 * only: the other one would double its memory.
 */
import { AgentMeshError, isAgentMeshError, RELAY_PATH } from '@agentmesh/sdk/wire'
import { jsonLine, note, print, type Context } from '../output.ts'

export interface RelayCommandOptions {
  host: string
  port: number
  data: string
  name?: readonly string[]
}

export interface RegistryCommandOptions {
  host: string
  port: number
  data: string
  databaseUrl?: string
  publicUrl?: string
}

export async function relay(context: Context, options: RelayCommandOptions): Promise<void> {
  const { startRelay } = await import('@agentmesh/relay')
  const { host, port, data, name } = options
  const running = await started(
    startRelay({
      host,
      port,
      dataPath: data,
      logger: serverLog,
      ...(name === undefined ? {} : { names: name }),
    }),
    `${host}:${port}`,
  )
  const url = `${running.url}${RELAY_PATH}`
  await serve(context, { url, port: running.port, names: running.relayIds }, `Relay at ${url}`, running)
}

export async function registry(context: Context, options: RegistryCommandOptions): Promise<void> {
  const { startRegistry } = await import('@agentmesh/registry')
  const { host, port, data, databaseUrl, publicUrl } = options
  const common = { host, port, logger: serverLog, ...(publicUrl === undefined ? {} : { publicUrl }) }
  const running = await started(
    startRegistry(databaseUrl === undefined ? { ...common, dataPath: data } : { ...common, databaseUrl }),
    `${host}:${port}`,
  )
  await serve(context, { url: running.url, port: running.port }, `Registry at ${running.url}`, running)
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

/** A server's log on stderr, one JSON value a line: what needs its operator, and nothing of ordinary work. */
const serverLog = {
  level: 'warn',
  fatal: logLine('fatal'),
  error: logLine('error'),
  warn: logLine('warn'),
  info: () => {},
  debug: () => {},
  trace: () => {},
  silent: () => {},
  child: () => serverLog,
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
