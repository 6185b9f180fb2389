/** What the relay needs of a logger; pino is one. Never called for a single message. */
export interface RelayLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export const silentLogger: RelayLogger = { debug() {}, info() {}, warn() {}, error() {} }
