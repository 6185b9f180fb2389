/**
 * A server as a program: configuration, start, one line that says where it is, and its end.
 *
 *     SIGTERM  drains: clients are moved elsewhere in the time that is set, then it ends
 *     SIGINT   ends now; so does a second signal
 *     SIGHUP   reads certificate files again
 */
import { readFileSync } from 'node:fs'
import type { Static, TObject } from 'typebox'
import { isAgentMeshError } from '../wire/index.ts'
import { invalid, readConfiguration, type Configuration } from './configuration.ts'
import { configurationText, optionsHelp, readCommandLine } from './command-line.ts'
import type { ServerDefinition } from './settings.ts'

export interface RunningServer {
  /** Ends in order, and quickly. */
  close(): Promise<void>
  /** Ends after its clients had time to go elsewhere; `close` cuts it short. */
  drain(): Promise<void>
  /** Reads certificate files again. */
  reload(): void
}

export interface ServerProgram<Schema extends TObject, Running extends RunningServer> {
  readonly definition: ServerDefinition<Schema>
  /** What is wrong between settings, and in the files they name. */
  readonly check: (values: Static<Schema>) => Promise<readonly string[]>
  readonly start: (values: Static<Schema>) => Promise<Running>
}

export interface ProgramIo<Running> {
  readonly args: readonly string[]
  /** Secrets are taken out of it, so that no program started from here inherits them. */
  readonly environment: Record<string, string | undefined>
  readonly readFile: (path: string) => Uint8Array
  /** Defaults by key, over the schema's. */
  readonly defaults?: Readonly<Record<string, unknown>>
  readonly print: (text: string) => void
  /** The line that says it listens. */
  readonly announce: (running: Running) => string
  readonly help: (options: string) => void
  /** What `--check-config` prints; for people when not given. */
  readonly describe?: (configuration: Configuration<TObject>) => string
}

/**
 * Returns when the server has ended.
 *
 * @throws CONFIG_INVALID with one line a mistake; what `start` throws
 */
export async function serve<Schema extends TObject, Running extends RunningServer>(
  program: ServerProgram<Schema, Running>,
  io: ProgramIo<Running>,
): Promise<void> {
  const { definition } = program
  const line = readCommandLine(definition, io.args)
  if (line.help) return io.help(optionsHelp(definition))
  const configuration = readConfiguration(definition, { ...io, options: line.options })
  for (const { setting } of configuration.held) if (setting.secret) delete io.environment[setting.variable]
  const problems = await program.check(configuration.values)
  if (problems.length > 0) throw invalid(definition, problems)
  if (line.checkConfig) return io.print((io.describe ?? configurationText)(configuration))
  const running = await program.start(configuration.values)
  const ended = untilSignal(running)
  io.print(io.announce(running))
  await ended
}

function untilSignal(running: RunningServer): Promise<void> {
  return new Promise((resolve, reject) => {
    let draining = false
    const reload = () => running.reload()
    const forget = () => {
      process.off('SIGTERM', drain).off('SIGINT', close).off('SIGHUP', reload)
    }
    const finish = (work: Promise<void>) => void work.finally(forget).then(resolve, reject)
    const close = () => finish(running.close())
    const drain = () => {
      if (draining) return close()
      draining = true
      finish(running.drain())
    }
    process.on('SIGTERM', drain).on('SIGINT', close).on('SIGHUP', reload)
  })
}

/** The message of each check that throws, behind the key it is about. */
export async function problemsOf(
  checks: Readonly<Record<string, () => unknown>>,
): Promise<readonly string[]> {
  const problems: string[] = []
  for (const [key, check] of Object.entries(checks)) {
    try {
      await check()
    } catch (error) {
      problems.push(`${key}: ${(error as Error).message}`)
    }
  }
  return problems
}

/** A server's own `main.ts`: sets the process's exit code, 2 for a mistake in the configuration, 1 for any other failure. */
export async function runMain<Schema extends TObject, Running extends RunningServer>(
  program: ServerProgram<Schema, Running>,
  facts: (running: Running) => object,
): Promise<void> {
  const { name } = program.definition
  try {
    const print = (text: string) => void process.stdout.write(`${text}\n`)
    await serve(program, {
      args: process.argv.slice(2),
      environment: process.env,
      readFile: readFileSync,
      print,
      announce: (running) => JSON.stringify(facts(running)),
      help: (options) =>
        print(`Usage: node main.js [options]\n\nRuns a ${name} in the foreground.\n\n${options}`),
    })
    process.exit(0)
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ''
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}${cause}\n`)
    process.exit(isAgentMeshError(error, 'CONFIG_INVALID') ? 2 : 1)
  }
}
