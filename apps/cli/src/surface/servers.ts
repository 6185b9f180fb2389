/** Commands that run a server, the demonstration, and the shell's completion. */
import { Argument, Command, Option } from 'commander'
import type { RegistryAuditOptions } from '../commands/registry-audit.ts'
import type { RegistryInitOptions, RootListOptions } from '../commands/registry-init.ts'
import type { RegistryCommandOptions, RelayCommandOptions } from '../commands/servers.ts'
import { adminCommand } from './registry-admin.ts'
import { collect, contextOf, port, seconds, withExamples } from './kit.ts'

const logLevel = (): Option =>
  new Option('--log-level <level>', 'what to log on stderr')
    .choices(['silent', 'error', 'warn', 'info'])
    .default('warn')

export function serverCommands(program: Command): Command[] {
  const relay = new Command('relay')
    .description('run a relay in the foreground')
    .addOption(new Option('--host <address>').env('AGENTMESH_RELAY_HOST').default('127.0.0.1'))
    .addOption(new Option('--port <n>').env('AGENTMESH_RELAY_PORT').argParser(port).default(7800))
    .addOption(
      new Option('--data <file>', 'SQLite file').env('AGENTMESH_RELAY_DATA').default('agentmesh-relay.db'),
    )
    .option(
      '--name <authority>',
      'host[:port] agents dial, when not the address; may be given again',
      collect,
    )
    .addOption(logLevel())
    .action(async (options: RelayCommandOptions, command: Command) =>
      (await import('../commands/servers.ts')).relay(contextOf(command), options),
    )
  withExamples(relay, [
    'agentmesh relay',
    'agentmesh relay --host 0.0.0.0 --name relay.example.org --data /var/lib/relay.db',
  ])

  const registry = new Command('registry')
    .description('run a registry in the foreground')
    .addOption(new Option('--host <address>').env('AGENTMESH_REGISTRY_HOST').default('127.0.0.1'))
    .addOption(new Option('--port <n>').env('AGENTMESH_REGISTRY_PORT').argParser(port).default(7700))
    .addOption(
      new Option('--data <file>', 'SQLite file')
        .env('AGENTMESH_REGISTRY_DATA')
        .default('agentmesh-registry.db'),
    )
    .addOption(new Option('--database-url <url>', 'PostgreSQL in place of the file').env('DATABASE_URL'))
    .option('--public-url <url>', 'URL agents use, when not the address')
    .addOption(
      new Option('--providers <file>', 'where people can vouch for agents').env(
        'AGENTMESH_REGISTRY_PROVIDERS',
      ),
    )
    .addOption(
      new Option('--ca <folder>', 'certificate authority (else the one beside the database, if any)').env(
        'AGENTMESH_REGISTRY_CA',
      ),
    )
    .option(
      '--dns-resolver <ip[:port]>',
      'where domains are checked: two or more, else public ones; may be given again',
      collect,
    )
    .option(
      '--trusted-proxy <ip>',
      'proxy whose X-Forwarded-For counts for limits by address; may be given again',
      collect,
    )
    .addOption(logLevel())
    .action(async (options: RegistryCommandOptions, command: Command) =>
      (await import('../commands/servers.ts')).registry(contextOf(command), options),
    )
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
  withExamples(registry, [
    'agentmesh registry',
    'DATABASE_URL=postgres://... agentmesh registry --host 0.0.0.0',
    'agentmesh registry init --name "Example registry" --url https://registry.example.org',
  ])
  registry
    .command('init')
    .description('make the certificate authority of a registry; never over one that is there')
    .option('--dir <folder>', 'where it goes (else beside the database)')
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
    .description('make the next revocation list of a root whose key is kept elsewhere')
    .requiredOption('--root <file>', "the root's key, as `init --offline-root` wrote it")
    .option('--dir <folder>', 'of the authority (else beside the database)')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/registry-init.ts')).registryRootList(
        contextOf(command),
        command.optsWithGlobals<RootListOptions>(),
      ),
    )
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

  return [relay, registry, demo, completion]
}
