/**
 * `agentmesh relay` and `agentmesh registry`: a server in the foreground, until SIGINT or SIGTERM. Each loads its own server
 * only: the other one would double its memory.
 */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import {
  serve,
  shown,
  type RunningServer,
  type ServerProgram,
  type SettingsSchema,
} from '@agentmesh/sdk/hosting'
import { AgentMeshError, isAgentMeshError, RELAY_PATH } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { jsonLine, print, type Context } from '../output.ts'

export async function relay(context: Context, command: Command): Promise<void> {
  const { relayProgram } = await import('@agentmesh/relay')
  await run(context, command, relayProgram, ({ url, port, relayIds }) => ({
    facts: { url: `${url}${RELAY_PATH}`, port, names: relayIds },
    text: `Relay at ${url}${RELAY_PATH}`,
  }))
}

export async function registry(context: Context, command: Command): Promise<void> {
  const { registryProgram } = await import('@agentmesh/registry')
  await run(context, command, registryProgram, ({ url, port, fingerprint }) => ({
    facts: { url, port, ...(fingerprint === undefined ? {} : { fingerprint }) },
    text: `Registry at ${url}`,
  }))
}

/** @throws UsageError for a mistake in the configuration */
async function run<Schema extends SettingsSchema, Running extends RunningServer>(
  context: Context,
  command: Command,
  program: ServerProgram<Schema, Running>,
  announce: (running: Running) => { facts: object; text: string },
): Promise<void> {
  try {
    await serve(
      { ...program, start: (values) => started(program.start(values)) },
      {
        args: command.args,
        environment: process.env,
        readFile: readFileSync,
        // A person looks at this terminal: what is not out of order is no news.
        defaults: { log_level: 'warn' },
        print,
        announce: (running) => {
          const { facts, text } = announce(running)
          return context.json ? jsonLine(facts) : text
        },
        help: (options) => command.addHelpText('after', `\n${options}`).outputHelp(),
        ...(context.json ? { describe: (configuration) => jsonLine(shown(configuration)) } : {}),
      },
    )
  } catch (error) {
    if (isAgentMeshError(error, 'CONFIG_INVALID')) throw new UsageError(error.message.replaceAll('\n', '; '))
    throw error
  }
}

/** @throws AgentMeshError also for what the system said, such as a port that is taken */
async function started<T>(starting: Promise<T>): Promise<T> {
  try {
    return await starting
  } catch (cause) {
    if (isAgentMeshError(cause)) throw cause
    throw new AgentMeshError('STORE_FAILED', `Cannot serve: ${(cause as Error).message}`, {
      operation: 'start server',
      cause,
    })
  }
}
