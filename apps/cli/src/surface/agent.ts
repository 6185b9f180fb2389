/** Commands about this agent itself: make it, start and end it, see how it is. */
import { Command } from 'commander'
import type { InitOptions } from '../commands/init-prompts.ts'
import type { SuccessionOptions } from '../commands/succession.ts'
import type { UpOptions } from '../commands/up.ts'
import type { VerifyMeOptions } from '../commands/verify-me.ts'
import { collect, contextOf, count, withExamples } from './kit.ts'

const PASSPHRASE_HELP = 'ask for the passphrase of the keys (else AGENTMESH_PASSPHRASE)'

export function agentCommands(): Command[] {
  const init = new Command('init')
    .description('make an agent: identity, configuration and policy in the home folder')
    .option('--name <text>', 'how the agent calls itself to others')
    .option('--registry <url>', 'registry to be found in')
    .option('--relay <url>', 'relay to be reached through; of several, the nearest', collect)
    .option('--relay-encoding <encoding>', 'how to talk to the relay: binary or json')
    .option('--capability <intent>', 'what it can do, category[/subcategory]; may be given again', collect)
    .option('--framework <name>', 'the agent framework behind it')
    .option('--passphrase-prompt', PASSPHRASE_HELP)
    .action(async (options: InitOptions, command: Command) =>
      (await import('../commands/init.ts')).init(contextOf(command), options),
    )
  withExamples(init, [
    'agentmesh init',
    'agentmesh init --name "Harbour Travel" --capability travel/flights',
    'agentmesh init --relay wss://relay.example.org --relay wss://other.example',
    'AGENTMESH_PASSPHRASE=... agentmesh init --home ~/agents/alice',
  ])

  const up = new Command('up')
    .description('start the daemon (and make the agent when the home is empty)')
    .option('--foreground', 'stay in this terminal')
    .option('--passphrase-prompt', PASSPHRASE_HELP)
    .action(async (options: UpOptions, command: Command) =>
      (await import('../commands/up.ts')).up(contextOf(command), options),
    )
  withExamples(up, ['agentmesh up', 'agentmesh up --foreground --json'])

  const down = new Command('down')
    .description('end the daemon; the agent keeps its state')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/daemon.ts')).down(contextOf(command)),
    )
  withExamples(down, ['agentmesh down'])

  const status = new Command('status')
    .description('relay, registry, presence, sessions, prekeys, policy, breaker')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/daemon.ts')).status(contextOf(command)),
    )
  withExamples(status, ['agentmesh status', 'agentmesh status --json'])

  const doctor = new Command('doctor')
    .description('check this machine, the home folder and the servers, and say what to do')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/doctor.ts')).doctor(contextOf(command)),
    )
  withExamples(doctor, ['agentmesh doctor'])

  const verifyMe = new Command('verify-me')
    .description('vouch for this agent as a person: others see it as verified, under a name you choose')
    .option('--provider <name>', 'where, when the registry offers several')
    .option('--display-name <text>', 'what others are shown; nothing when left out')
    .option('--device', 'type a code on another device, where this one has no browser')
    .option('--email <address>', 'by a code sent by mail; without a terminal it is read from stdin')
    .option('--no-browser', 'print the address only')
    .option('--passphrase-prompt', PASSPHRASE_HELP)
    .action(async (options: VerifyMeOptions, command: Command) =>
      (await import('../commands/verify-me.ts')).verifyMe(contextOf(command), options),
    )
  withExamples(verifyMe, [
    'agentmesh verify-me',
    'agentmesh verify-me --provider github --display-name "Anna of Harbour Travel"',
    'agentmesh verify-me --device',
  ])

  const succession = new Command('succession')
    .description('go on as this agent in the place of one whose key is lost or stolen')
    .argument('<old-amid>', 'the agent that ends')
    .option('--passphrase-prompt', PASSPHRASE_HELP)
    .action(async (old: string, options: SuccessionOptions, command: Command) =>
      (await import('../commands/succession.ts')).succession(contextOf(command), old, options),
    )
  withExamples(succession, [
    'agentmesh init --home ~/agents/new && agentmesh up --home ~/agents/new',
    'agentmesh succession <old amid> --home ~/agents/new               asks for the 24 words',
    'agentmesh succession <old amid> --home ~/agents/new < words.txt',
  ])

  const audit = new Command('audit')
    .description('the log of what this agent did')
    .option('--event <name>', 'only events of this name')
    .option('--limit <n>', 'only the last n lines', count)
    .action(async (options: { event?: string; limit?: number }, command: Command) =>
      (await import('../commands/audit.ts')).audit(contextOf(command), options),
    )
  withExamples(audit, [
    'agentmesh audit --limit 20',
    'agentmesh audit --event knock_received',
    'agentmesh audit verify',
    'agentmesh audit acknowledge <gap>',
  ])
  audit
    .command('verify')
    .description('check the hash chain, its signed head and its end, and list the gaps')
    .option('--passphrase-prompt', `${PASSPHRASE_HELP}; needed while no daemon runs`)
    .action(async (options: { passphrasePrompt?: boolean }, command: Command) =>
      (await import('../commands/audit.ts')).auditVerify(contextOf(command), options),
    )
  audit
    .command('acknowledge')
    .description('say that you know of a gap in the log: it is no error any more')
    .argument('<id>', 'of the gap, as `audit verify` shows it')
    .action(async (id: string, _options: object, command: Command) =>
      (await import('../commands/audit.ts')).auditAcknowledge(contextOf(command), id),
    )

  return [init, up, down, status, doctor, verifyMe, succession, audit]
}
