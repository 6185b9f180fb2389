/**
 * One command line, from its words to its exit code. `program.ts` and `surface/` say what there is to type; `commands/` does
 * it and is loaded only when a command runs, because `--help` must not wait for cryptography.
 */
import { CommanderError } from 'commander'
import { EXIT } from './exit-codes.ts'
import { createProgram } from './program.ts'
import { reportError } from './report.ts'

/** Runs one command line and sets the process's exit code. */
export async function runCommand(args: readonly string[]): Promise<void> {
  const program = createProgram()
  try {
    await program.parseAsync([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && error.code === 'commander.help') process.exitCode = EXIT.usage
    else process.exitCode = await reportError(error, args.includes('--json'))
  }
}
