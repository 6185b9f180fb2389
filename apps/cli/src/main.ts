/** The `agentmesh` command: the process around one command line. */
import { EXIT } from './exit-codes.ts'
import { runCommand } from './run.ts'

// A reader that has seen enough (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})
await runCommand(process.argv.slice(2))
