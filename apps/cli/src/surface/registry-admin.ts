/** `agentmesh registry admin`: what the operator of a registry does. */
import { Argument, Command, Option } from 'commander'
import type { AdminOptions, BanOptions, RevokeOptions } from '../commands/registry-admin.ts'
import { contextOf, withExamples } from './kit.ts'

const reason = (): Option =>
  new Option('--reason <text>', 'why; kept in the record of actions').makeOptionMandatory()

export function adminCommand(): Command {
  const admin = new Command('admin')
    .description('decide held reputation changes, revoke, ban, export')
    .addOption(
      new Option('--url <url>', 'of the registry')
        .env('AGENTMESH_REGISTRY_URL')
        .default('http://127.0.0.1:7700'),
    )
  const run = () => import('../commands/registry-admin.ts')
  const add = (command: Command) => {
    admin.addCommand(command)
    return command
  }
  add(new Command('reviews').description('reputation changes that wait for a decision')).action(
    async (_options: object, command: Command) =>
      (await run()).reviews(contextOf(command), command.optsWithGlobals<AdminOptions>()),
  )
  for (const decision of ['approve', 'reject'] as const) {
    add(new Command(decision))
      .description(
        decision === 'approve' ? 'publish a held change' : 'strike out the evidence of a held change',
      )
      .argument('<amid>', 'whose reputation it is')
      .addOption(reason())
      .action(async (amid: string, _options: object, command: Command) =>
        (await run()).decide(contextOf(command), amid, decision, command.optsWithGlobals<AdminOptions>()),
      )
  }
  add(new Command('revoke'))
    .description('revoke every certificate of an agent')
    .argument('<amid>')
    .addOption(
      new Option('--code <code>', 'reason as revocation lists know it')
        .choices([
          'unspecified',
          'keyCompromise',
          'affiliationChanged',
          'cessationOfOperation',
          'privilegeWithdrawn',
        ])
        .default('unspecified'),
    )
    .addOption(reason())
    .action(async (amid: string, _options: object, command: Command) =>
      (await run()).revoke(contextOf(command), amid, command.optsWithGlobals<RevokeOptions>()),
    )
  add(new Command('ban'))
    .description('serve an agent no more: it cannot register, be verified or be found')
    .argument('<amid>')
    .option('--human', 'the person behind it, with all agents of that person')
    .addOption(reason())
    .action(async (amid: string, _options: object, command: Command) =>
      (await run()).ban(contextOf(command), amid, command.optsWithGlobals<BanOptions>()),
    )
  add(new Command('unban'))
    .description('lift a ban')
    .argument('<subject>', 'as `ban` and `export bans` name it: agent:<amid> or human:<hash>')
    .addOption(reason())
    .action(async (subject: string, _options: object, command: Command) =>
      (await run()).unban(contextOf(command), subject, command.optsWithGlobals<AdminOptions>()),
    )
  add(new Command('export'))
    .description('print everything of a kind as JSON lines, oldest first')
    .addArgument(new Argument('<kind>').choices(['evidence', 'actions', 'bans']))
    .action(async (kind: string, _options: object, command: Command) =>
      (await run()).exportAll(kind, command.optsWithGlobals<AdminOptions>()),
    )
  return withExamples(admin, [
    'AGENTMESH_REGISTRY_ADMIN_TOKEN=... agentmesh registry admin reviews',
    "agentmesh registry admin reject <amid> --reason 'a campaign'",
    "agentmesh registry admin ban <amid> --human --reason 'fraud'",
    'agentmesh registry admin export actions > actions.jsonl',
  ])
}
