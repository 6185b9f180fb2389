/**
 * The `agentmesh` command. `program.ts` and `surface/` say what there is to type; `commands/` does it and is loaded only
 * when a command runs, because `--help` must not wait for cryptography.
 */
import { CommanderError } from 'commander'
import { EXIT } from './exit-codes.ts'
import { createProgram } from './program.ts'
import { reportError } from './report.ts'

/** Runs one command line and sets the process's exit code. */
async function main(args: readonly string[]): Promise<void> {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok)
    throw error
  })
  const program = createProgram()
  try {
    await program.parseAsync([...args], { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && error.code === 'commander.help') process.exitCode = EXIT.usage
    else process.exitCode = await reportError(error, args.includes('--json'))
  }
}

await main(process.argv.slice(2))
