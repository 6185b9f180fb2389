/** Commands that run a server, the demonstration, and the shell's completion. */
import { Argument, Command, Option } from 'commander'
import type { RegistryAuditOptions } from '../commands/registry-audit.ts'
import type { IntermediateOptions, RegistryInitOptions, RootListOptions } from '../commands/registry-init.ts'
import { adminCommand } from './registry-admin.ts'
import { contextOf, seconds, withExamples } from './kit.ts'

const dataFile = (): Option =>
  new Option('--data <file>', "the registry's SQLite file")
    .env('AGENTMESH_REGISTRY_DATA')
    .default('agentmesh-registry.db')

/** A command made by `command()` would inherit that its server has none. */
const HELP = ['-h, --help', 'show this'] as const

/** A server reads its own options: they come from its settings, which only it knows. */
const server = (name: 'relay' | 'registry', examples: readonly string[]): Command =>
  withExamples(
    new Command(name)
      .description(`run a ${name} in the foreground; \`agentmesh ${name} --help\` lists its options`)
      .usage('[options]')
      .helpOption(false)
      .allowUnknownOption()
      .allowExcessArguments()
      .action(async (_options: object, command: Command) =>
        (await import('../commands/servers.ts'))[name](contextOf(command), command),
      ),
    examples,
  )

export function serverCommands(program: Command): Command[] {
  const relay = server('relay', [
    'agentmesh relay',
    'agentmesh relay --host 0.0.0.0 --name relay.example.org --data /var/lib/relay.db',
    'agentmesh relay --config /etc/agentmesh/relay.json --check-config',
  ])
  const registry = server('registry', [
    'agentmesh registry',
    'DATABASE_URL=postgres://... agentmesh registry --host 0.0.0.0',
    'agentmesh registry init --name "Example registry" --url https://registry.example.org',
    'agentmesh registry --config /etc/agentmesh/registry.json --check-config',
  ])
  const audit = new Command('audit')
    .description('check the log of a registry against what was seen before, and say what is new in it')
    .argument('<url>', 'of the registry')
    .option('--state <file>', 'what was seen before; below the home when not given')
    .option('--fingerprint <hex>', 'of the registry, as its owner tells it')
    .option('--watch <seconds>', 'look again and again', seconds)
    .action(async (url: string, options: RegistryAuditOptions, command: Command) =>
      (await import('../commands/registry-audit.ts')).registryAudit(contextOf(command), url, options),
    )
  withExamples(audit, [
    'agentmesh registry audit https://registry.example.org',
    'agentmesh registry audit https://registry.example.org --watch 300 --json',
  ])
  registry.addCommand(audit)
  registry
    .command('init')
    .helpOption(...HELP)
    .description('make the certificate authority of a registry; never over one that is there')
    .option('--dir <folder>', 'where it goes (else beside the database)')
    .addOption(dataFile())
    .option('--name <text>', 'of the registry, in every certificate', 'AgentMesh registry')
    .option('--url <url>', 'where agents reach the registry', 'http://127.0.0.1:7700')
    .option('--offline-root <file>', "write the root's key there instead, to be kept elsewhere")
    .action(async (_options: object, command: Command) =>
      (await import('../commands/registry-init.ts')).registryInit(
        contextOf(command),
        command.optsWithGlobals<RegistryInitOptions>(),
      ),
    )

  registry
    .command('root-list')
    .helpOption(...HELP)
    .description('make the next revocation list of a root whose key is kept elsewhere')
    .requiredOption('--root <file>', "the root's key, as `init --offline-root` wrote it")
    .option('--dir <folder>', 'of the authority (else beside the database)')
    .addOption(dataFile())
    .action(async (_options: object, command: Command) =>
      (await import('../commands/registry-init.ts')).registryRootList(
        contextOf(command),
        command.optsWithGlobals<RootListOptions>(),
      ),
    )
  registry.addCommand(intermediateCommand())
  registry.addCommand(adminCommand())

  const demo = new Command('demo')
    .description('two agents meet, talk and are refused, in separate processes; ends by itself')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/demo.ts')).demo(contextOf(command)),
    )
  withExamples(demo, ['agentmesh demo'])

  const completion = new Command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action(async (shell: 'bash' | 'zsh' | 'fish') =>
      (await import('../commands/completion.ts')).completion(program, shell),
    )
  withExamples(completion, [
    'source <(agentmesh completion bash)',
    'agentmesh completion fish > ~/.config/fish/completions/agentmesh.fish',
  ])

  const help = new Command('help')
    .description('show help for a command')
    .argument('[command...]')
    // The command itself shows it: a server's options are known to nobody else.
    .action(async (path: readonly string[]) => {
      let command = program
      for (const name of path) {
        const child = command.commands.find((each) => each.name() === name)
        if (child === undefined) program.error(`error: unknown command '${path.join(' ')}'`)
        command = child
      }
      await program.parseAsync([...path, '--help'], { from: 'user' })
    })

  return [relay, registry, demo, completion, help]
}

function intermediateCommand(): Command {
  const intermediate = new Command('intermediate').description(
    'the certificates under which a registry issues: make the next one, end an old one',
  )
  withExamples(intermediate, [
    'agentmesh registry intermediate list',
    'agentmesh registry intermediate renew --root /media/safe/root.json',
    'agentmesh registry intermediate revoke <key id> --reason keyCompromise --root /media/safe/root.json',
  ])
  const authority = (command: Command): Command =>
    command.option('--dir <folder>', 'of the authority (else beside the database)').addOption(dataFile())
  const root = [
    '--root <file>',
    "the root's key, as `init --offline-root` wrote it; else in the folder",
  ] as const
  const act =
    (action: 'renew' | 'revoke' | 'list') =>
    async (command: Command, keyId?: string): Promise<void> =>
      (await import('../commands/registry-init.ts')).registryIntermediate(
        contextOf(command),
        action,
        command.optsWithGlobals<IntermediateOptions>(),
        keyId,
      )
  authority(intermediate.command('list').description('those that are known, and which one issues')).action(
    (_options: object, command: Command) => act('list')(command),
  )
  authority(intermediate.command('renew').description('make the next one; the one before stays good'))
    .option(...root)
    .action((_options: object, command: Command) => act('renew')(command))
  authority(intermediate.command('revoke').description('nothing under it is accepted any more'))
    .argument('<key-id>')
    .requiredOption('--reason <name>', 'such as keyCompromise, superseded')
    .option(...root)
    .action((keyId: string, _options: object, command: Command) => act('revoke')(command, keyId))
  return intermediate
}
