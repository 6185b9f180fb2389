/** What the relay needs of a logger; pino is one. */
export interface RelayLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export const silentLogger: RelayLogger = { debug() {}, info() {}, warn() {}, error() {} }

const QUIET_MS = 10_000

/**
 * Says an error or a warning at once, and then, for ten seconds, only counts others of the same text: what fails for one message
 * fails for all that strangers like to send. The texts are ours, so there are few.
 *
 * @param now milliseconds since the epoch
 */
export function sparingLogger(logger: RelayLogger, now: () => number): RelayLogger {
  const said = new Map<string, { at: number; unsaid: number }>()
  const sparing = (level: 'error' | 'warn') => (fields: object, message: string) => {
    const last = said.get(message)
    if (last !== undefined && now() - last.at < QUIET_MS) {
      last.unsaid += 1
      return
    }
    said.set(message, { at: now(), unsaid: 0 })
    const unsaid = last?.unsaid ?? 0
    logger[level](unsaid === 0 ? fields : { ...fields, unsaid }, message)
  }
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: sparing('warn'),
    error: sparing('error'),
  }
}
