/** What commands share: the home they are about, the client of its daemon, input that is bounded. */
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AgentClient, defaultHomePath } from '@agentmesh/sdk/client'
import { isAgentMeshError } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import type { Context } from '../output.ts'

/** The command itself, to start more of it. */
export const COMMAND = fileURLToPath(new URL('../../bin/agentmesh.js', import.meta.url))

export function homePath(context: Context): string {
  return context.home === undefined ? defaultHomePath(process.env) : resolve(context.home)
}

export function clientOf(context: Context): AgentClient {
  return new AgentClient(homePath(context), 'cli')
}

/** The answer, or undefined when no daemon runs. */
export async function unlessDown<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (isAgentMeshError(error, 'DAEMON_NOT_RUNNING')) return undefined
    throw error
  }
}

/** All of stdin as text. @throws UsageError beyond the limit */
export async function readStdin(maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBytes) throw new UsageError(`stdin is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/**
 * The passphrase of the keys, from the prompt or the environment. It is taken out of the environment, so that no program
 * started from here inherits it.
 */
export async function readPassphrase(
  options: { passphrasePrompt?: boolean },
  question = 'Passphrase of the keys',
): Promise<string | undefined> {
  const fromEnvironment = process.env['AGENTMESH_PASSPHRASE']
  delete process.env['AGENTMESH_PASSPHRASE']
  if (options.passphrasePrompt !== true) return fromEnvironment === '' ? undefined : fromEnvironment
  if (!process.stdin.isTTY) throw new UsageError('--passphrase-prompt needs a terminal')
  const { isCancel, password } = await import('@clack/prompts')
  const answer = await password({ message: question, output: process.stderr })
  if (isCancel(answer) || answer === '') throw new UsageError('No passphrase was given')
  return answer
}
