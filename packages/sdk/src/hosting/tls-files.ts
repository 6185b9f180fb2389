/**
 * Certificate and key of a server's TLS, read from two PEM files and read again when they change. A pair is taken when it parses,
 * belongs together, and holds today; a new one that does not leaves the old one in force, and the log says why.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, watch, type FSWatcher } from 'node:fs'
import { basename, dirname } from 'node:path'
import { createSecureContext, type Server } from 'node:tls'
import { AgentMeshError } from '../wire/index.ts'

export interface TlsFiles {
  /** PEM: the server's certificate, then the intermediate ones. */
  readonly certificate: string
  /** PEM. */
  readonly key: string
}

export interface TlsPair {
  readonly cert: Buffer
  readonly key: Buffer
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** @throws Error saying what is wrong with which file */
export function readTlsPair({ certificate, key }: TlsFiles, now: number): TlsPair {
  const pair = { cert: readNamed(certificate), key: readNamed(key) }
  try {
    createSecureContext(pair)
  } catch (cause) {
    const why = (cause as Error).message
    const what = /key values mismatch/.test(why) ? 'do not belong together' : `are no PEM pair (${why})`
    throw new Error(`${certificate} and ${key} ${what}`, { cause })
  }
  const { validFrom, validTo } = new X509Certificate(pair.cert)
  const expiresAt = Date.parse(validTo)
  if (expiresAt <= now) throw new Error(`${certificate} expired on ${validTo}`)
  if (Date.parse(validFrom) > now) throw new Error(`${certificate} holds from ${validFrom} only`)
  return { ...pair, expiresAt }
}

function readNamed(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    throw new Error(`${path} cannot be read: ${(cause as NodeJS.ErrnoException).code ?? String(cause)}`, {
      cause,
    })
  }
}

/** Two files are rarely written at one moment: the pair is read when it has been quiet for so long. */
const SETTLE_MS = 500

interface TlsReloadOptions {
  readonly files: TlsFiles
  readonly onPair: (pair: TlsPair) => void
  /** Told why the old pair stays. */
  readonly onRefused: (error: Error) => void
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

class TlsReload {
  readonly #options: TlsReloadOptions
  readonly #watchers: readonly FSWatcher[]
  #timer: NodeJS.Timeout | undefined

  constructor(options: TlsReloadOptions) {
    this.#options = options
    const { certificate, key } = options.files
    // Folders, not files: renewal replaces a file or the link to it, and a watch on the old one would see nothing more.
    const folders = new Map<string, Set<string>>()
    for (const path of [certificate, key]) {
      const names = folders.get(dirname(path)) ?? new Set()
      folders.set(dirname(path), names.add(basename(path)))
    }
    this.#watchers = [...folders].map(([folder, names]) =>
      watch(folder, { persistent: false }, (_event, name) => {
        // Mounted secrets are links through `..data`, which is what changes.
        if (name === null || names.has(name) || name.startsWith('..')) this.#changed()
      }).on('error', (error) => options.onRefused(error)),
    )
  }

  /** Reads the pair now. */
  reload(): void {
    clearTimeout(this.#timer)
    const { files, onPair, onRefused, now } = this.#options
    let pair: TlsPair
    try {
      pair = readTlsPair(files, now())
    } catch (error) {
      onRefused(error as Error)
      return
    }
    onPair(pair)
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const watcher of this.#watchers) watcher.close()
  }

  #changed(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.reload(), SETTLE_MS)
    this.#timer.unref()
  }
}

/** TLS 1.2 is what some proxies and health checks still speak; its weak suites are not in Node's list. */
const MIN_VERSION = 'TLSv1.2'

export interface ListenerTls {
  /** For `https.createServer`. */
  readonly options: { readonly cert: Buffer; readonly key: Buffer; readonly minVersion: typeof MIN_VERSION }
  /** When the certificate in force ends, in milliseconds since the epoch. */
  readonly expiresAt: number
  /** Keeps the server's pair the one that is in the files. Connections that are open stay as they are. */
  attach(server: Server): void
  reload(): void
  close(): void
}

interface TlsLogger {
  info(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** @throws CONFIG_INVALID for a pair that cannot be taken */
export function listenerTls(files: TlsFiles, logger: TlsLogger, now: () => number): ListenerTls {
  let pair = readOrRefuse(files, now())
  let servers: Server[] = []
  const reload = new TlsReload({
    files,
    now,
    onPair: (next) => {
      pair = next
      for (const server of servers) server.setSecureContext({ ...optionsOf(pair) })
      logger.info({ expiresAt: new Date(pair.expiresAt).toISOString() }, 'certificate read again')
    },
    onRefused: (error) =>
      logger.error({ reason: error.message }, 'new certificate refused; the old one stays in force'),
  })
  return {
    options: optionsOf(pair),
    get expiresAt() {
      return pair.expiresAt
    },
    attach: (server) => void servers.push(server),
    reload: () => reload.reload(),
    close: () => {
      servers = []
      reload.close()
    },
  }
}

function optionsOf({ cert, key }: TlsPair): ListenerTls['options'] {
  return { cert, key, minVersion: MIN_VERSION }
}

function readOrRefuse(files: TlsFiles, now: number): TlsPair {
  try {
    return readTlsPair(files, now)
  } catch (cause) {
    throw new AgentMeshError('CONFIG_INVALID', `tls: ${(cause as Error).message}`, { cause })
  }
}
