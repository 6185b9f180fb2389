/** An error's last stop: one line on stderr with its stable code, and the exit code that belongs to it. */
import { CommanderError } from 'commander'
import { EXIT, exitCodeOf, hintFor, UsageError, type ExitCode } from './exit-codes.ts'

interface Reported {
  readonly code: string
  readonly message: string
  readonly hint?: string
  readonly retry_after_seconds?: number
}

/** Prints the error and returns the exit code. */
export async function reportError(error: unknown, json: boolean): Promise<ExitCode> {
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok
  const reported = describe(error)
  // Loaded here, not above: the help text must not wait for it.
  const { errorColor, jsonLine, note } = await import('./output.ts')
  const { escapeText } = await import('@agentmesh/sdk/wire')
  if (json) {
    note(jsonLine({ error: reported }))
  } else {
    note(`${errorColor.red('error')} ${reported.code}: ${escapeText(reported.message)}`)
    if (reported.hint !== undefined) note(reported.hint)
    if (reported.code === 'INTERNAL' && error instanceof Error) note(escapeLines(error, escapeText))
  }
  return exitCodeOf(reported.code)
}

function describe(error: unknown): Reported {
  if (error instanceof CommanderError) {
    return { code: 'USAGE', message: error.message.replace(/^error: /, '').trim() }
  }
  if (error instanceof UsageError) return { code: error.code, message: error.message }
  if (error instanceof Error && error.name === 'AgentMeshError' && 'code' in error) {
    const { code, message } = error as Error & { code: string; retryAfterSeconds?: number }
    const hint = hintFor(code)
    const retry = 'retryAfterSeconds' in error ? error.retryAfterSeconds : undefined
    return {
      code,
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(typeof retry === 'number' ? { retry_after_seconds: retry } : {}),
    }
  }
  return { code: 'INTERNAL', message: error instanceof Error ? error.message : String(error) }
}

function escapeLines(error: Error, escape: (text: string) => string): string {
  return (error.stack ?? '').split('\n').slice(1).map(escape).join('\n')
}
