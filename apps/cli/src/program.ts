/** The command tree, and nothing of what the commands do: small, so that `--help` is quick. */
import { Command } from 'commander'
import { EXIT_MEANINGS } from './exit-codes.ts'
import { agentCommands } from './surface/agent.ts'
import { withExamples } from './surface/kit.ts'
import { organizationCommands } from './surface/organization.ts'
import { ownerCommands } from './surface/owner.ts'
import { peerCommands } from './surface/peers.ts'
import { serverCommands } from './surface/servers.ts'

const VERSION = '0.2.0'

export function createProgram(): Command {
  const program = new Command('agentmesh')
    .description('Agents find each other and talk in private, with their owners in charge.')
    .version(VERSION, '--version', 'print the version')
    .option('--home <folder>', "the agent's home folder (else AGENTMESH_HOME, else ~/.agentmesh)")
    .option('--json', 'one JSON value on stdout, or one a line when it streams; errors as JSON on stderr')
    .helpOption('-h, --help', 'show this')
    .helpCommand(false)
  withExamples(program, [
    'agentmesh demo                                        see it work on this machine',
    'agentmesh init --capability travel/flights            make an agent',
    'agentmesh up                                          put it on the network',
    "agentmesh listen --exec 'python3 answer.py'           answer what others ask",
    'agentmesh search travel/flights                       find others',
    'agentmesh send <amid> --intent travel/flights --wait 60',
  ])
  const groups: readonly (readonly [string, readonly Command[]])[] = [
    ['This agent:', agentCommands()],
    ['Other agents:', peerCommands()],
    ['In charge:', ownerCommands()],
    ['An organisation:', organizationCommands()],
    ['Servers and more:', serverCommands(program)],
  ]
  for (const [title, commands] of groups) {
    program.commandsGroup(title)
    for (const command of commands) program.addCommand(command)
  }
  program.addHelpText('after', `\nExit codes:\n${exitCodeLines().join('\n')}`)
  eachCommand(program, (command) => {
    command
      .exitOverride()
      // run.ts reports errors, in the form that was asked for.
      .configureOutput({ outputError: () => {} })
      .configureHelp({ showGlobalOptions: true })
  })
  return program
}

function eachCommand(command: Command, visit: (command: Command) => void): void {
  visit(command)
  for (const child of command.commands) eachCommand(child, visit)
}

function exitCodeLines(): string[] {
  return Object.entries(EXIT_MEANINGS).map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`)
}
