/** Commands by which the owner stays in charge: policy and circuit breakers. */
import type { PresenceState } from '@agentmesh/sdk'
import { Argument, Command, Option } from 'commander'
import type { PolicyTestOptions } from '../commands/policy.ts'
import type { TrustAddOptions } from '../commands/trust.ts'
import { contextOf, rating, withExamples } from './kit.ts'

export function ownerCommands(): Command[] {
  const policy = new Command('policy').description('who may knock, about what, how much')
  withExamples(policy, [
    'agentmesh policy show',
    'agentmesh policy set accepted_intents travel,research/web_search',
    'agentmesh policy set rate_limit.knocks_per_minute 10',
    'agentmesh policy test finance/payments --from <amid>',
    'agentmesh policy test finance/payments --from <amid> --as verified --reputation 0.4',
  ])
  policy
    .command('show')
    .description('the policy in force')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/policy.ts')).policyShow(contextOf(command)),
    )
  policy
    .command('set')
    .description('change one field')
    .argument('<field>', 'such as strict_mode or rate_limit.knocks_per_minute')
    .argument('<value>', 'JSON, or for a list its items with commas')
    .action(async (field: string, value: string, _options: object, command: Command) =>
      (await import('../commands/policy.ts')).policySet(contextOf(command), field, value),
    )
  policy
    .command('edit')
    .description('open it in $EDITOR; a mistake keeps the old one in force')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/policy.ts')).policyEdit(contextOf(command)),
    )
  policy
    .command('test')
    .description('what would happen to a KNOCK')
    .argument('<intent>', 'category[/subcategory]')
    .requiredOption('--from <amid>', 'who would knock')
    .addOption(
      new Option('--as <tier>', 'what it would prove to be').choices([
        'anonymous',
        'verified',
        'organization',
      ]),
    )
    .option('--reputation <score>', 'its reputation, 0 to 1; else where its tier starts', rating)
    .action(async (intent: string, options: PolicyTestOptions, command: Command) =>
      (await import('../commands/policy.ts')).policyTest(contextOf(command), intent, options),
    )

  const trust = new Command('trust').description(
    'the registries whose certificates count here, and who goes on as whom',
  )
  withExamples(trust, [
    'agentmesh trust list',
    'agentmesh trust add https://registry.example --fingerprint <fingerprint>',
    'agentmesh trust remove registry.example',
    'agentmesh trust accept-successor <old amid> <new amid>',
  ])
  trust
    .command('list')
    .description('names, addresses, fingerprints')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/trust.ts')).trustList(contextOf(command)),
    )
  trust
    .command('add')
    .description('believe whom this registry calls verified, and look agents up there')
    .argument('<url>')
    .option('--fingerprint <hex>', 'of its root, as its operator publishes it; else you are asked')
    .action(async (url: string, options: TrustAddOptions, command: Command) =>
      (await import('../commands/trust.ts')).trustAdd(contextOf(command), url, options),
    )
  trust
    .command('remove')
    .description('its certificates say nothing here from now on')
    .argument('<registry>', 'name or fingerprint')
    .action(async (which: string, _options: object, command: Command) =>
      (await import('../commands/trust.ts')).trustRemove(contextOf(command), which),
    )
  trust
    .command('refresh')
    .description('fetch certificates, revocation lists and credentials now')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/trust.ts')).trustRefresh(contextOf(command)),
    )

  trust
    .command('successors')
    .description('who says, by a peer’s recovery key, to go on as that peer')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/trust.ts')).trustSuccessors(contextOf(command)),
    )
  trust
    .command('accept-successor')
    .description('give an agent’s place on the allowlist to its successor, and block the old one')
    .argument('<old-amid>')
    .argument('<new-amid>')
    .action(async (old: string, next: string, _options: object, command: Command) =>
      (await import('../commands/trust.ts')).trustAcceptSuccessor(contextOf(command), old, next),
    )

  const block = new Command('block')
    .description('refuse an agent from this moment and end every session with it')
    .argument('<amid>')
    .action(async (amid: string, _options: object, command: Command) =>
      (await import('../commands/breakers.ts')).block(contextOf(command), amid),
    )
  const allow = new Command('allow')
    .description('put an agent on the allowlist, and off the blocklist')
    .argument('<amid>')
    .action(async (amid: string, _options: object, command: Command) =>
      (await import('../commands/breakers.ts')).allow(contextOf(command), amid),
    )
  const forget = new Command('forget')
    .description('end every session with an agent and delete all that is held about it')
    .argument('<amid>')
    .option('--yes', 'do not ask')
    .action(async (amid: string, options: { yes?: boolean }, command: Command) =>
      (await import('../commands/forget.ts')).forget(contextOf(command), amid, options),
    )
  forget.addHelpText('after', FORGET_HELP)
  const presence = new Command('presence')
    .description('how reachable others see this agent')
    .addArgument(new Argument('<state>').choices(['online', 'away', 'dnd', 'offline']))
    .action(async (state: PresenceState, _options: object, command: Command) =>
      (await import('../commands/breakers.ts')).presence(contextOf(command), state),
    )
  presence.addHelpText('after', PRESENCE_HELP)
  const breaker = (name: 'pause' | 'resume' | 'shutdown' | 'emergency-stop', description: string) =>
    withExamples(
      new Command(name)
        .description(description)
        .action(async (_options: object, command: Command) =>
          (await import('../commands/breakers.ts')).setBreaker(contextOf(command), name),
        ),
      [`agentmesh ${name}`],
    )

  return [
    policy,
    trust,
    withExamples(block, ['agentmesh block <amid>']),
    withExamples(allow, ['agentmesh allow <amid>']),
    withExamples(forget, ['agentmesh forget <amid>', 'agentmesh forget <amid> --yes --json']),
    withExamples(presence, ['agentmesh presence dnd', 'agentmesh presence online']),
    breaker('pause', 'refuse new KNOCKs; sessions go on'),
    breaker('resume', 'undo pause, shutdown and emergency-stop'),
    breaker('shutdown', 'end all sessions and stay off the network until resume'),
    breaker('emergency-stop', 'shutdown, stop the agent framework and answering programs, end the daemon'),
  ]
}

const FORGET_HELP = `
Deleted: sessions with their keys, messages of both directions, receipts, kept answers, decisions, the newest keys seen.
Kept: its place on allowlist or blocklist, the audit log, files you exported, and filters against replayed packets.
`

const PRESENCE_HELP = `
Whoever asks is told. dnd also takes no KNOCKs: the relay keeps them, up to 72 hours, until it is over. Sessions go on in
all four. It lasts until the daemon ends; the next one starts as online.
`
