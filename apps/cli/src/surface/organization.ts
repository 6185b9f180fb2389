/** Commands of an organisation: its domain, and the certificates of its fleet. */
import { Command } from 'commander'
import type { IssueOptions } from '../commands/organization.ts'
import { contextOf, count, withExamples } from './kit.ts'

export function organizationCommands(): Command[] {
  const org = new Command('org').description('an organisation: prove a domain, certify and revoke its agents')
  withExamples(org, [
    'agentmesh org register acme.example --name "Acme"',
    'agentmesh org verify',
    'agentmesh org request > agent.json                            on the agent’s machine',
    'agentmesh org issue <amid> --request agent.json --role support --out agent-certificate.json',
    'agentmesh org join agent-certificate.json                      on the agent’s machine',
    'agentmesh org revoke <amid> --reason keyCompromise',
  ])
  org
    .command('register')
    .description('ask for a domain, and get the DNS record that proves it')
    .argument('<domain>', 'such as acme.example')
    .requiredOption('--name <text>', 'the organisation’s name, shown beside the domain')
    .action(async (domain: string, options: { name: string }, command: Command) =>
      (await import('../commands/organization.ts')).orgRegister(contextOf(command), domain, options),
    )
  org
    .command('verify')
    .description('have the registry look for the record, and get the certificate')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/organization.ts')).orgVerify(contextOf(command)),
    )
  org
    .command('request')
    .description('print what an organisation needs to certify this home’s agent')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/organization.ts')).orgRequest(contextOf(command)),
    )
  org
    .command('issue')
    .description('certify an agent, with the organisation’s own key')
    .argument('<amid>')
    .option('--role <name>', 'what the agent is in the organisation')
    .option('--name <text>', 'the name it goes by (else that of the request)')
    .option('--request <file>', 'its `org request`; without it the registry is asked for its key')
    .option('--days <n>', 'how long it holds, at most 30', count)
    .option('--out <file>', 'write the certificate there; never over a file')
    .action(async (amid: string, options: IssueOptions, command: Command) =>
      (await import('../commands/organization.ts')).orgIssue(contextOf(command), amid, options),
    )
  org
    .command('join')
    .description('agree to a certificate: the registry shows its organisation in this agent’s record')
    .argument('<file>', 'what org issue --out wrote')
    .action(async (path: string, _options: object, command: Command) =>
      (await import('../commands/organization.ts')).orgJoin(contextOf(command), path),
    )
  org
    .command('revoke')
    .description('revoke certificates, and tell the registry')
    .argument('<amid|serial>')
    .requiredOption('--reason <name>', 'such as keyCompromise, affiliationChanged, cessationOfOperation')
    .action(async (which: string, options: { reason: string }, command: Command) =>
      (await import('../commands/organization.ts')).orgRevoke(contextOf(command), which, options),
    )
  org
    .command('crl')
    .description(
      'sign the revocation list anew (it is good for 30 days) and bring it to the registry; a running daemon does it by itself',
    )
    .action(async (_options: object, command: Command) =>
      (await import('../commands/organization.ts')).orgCrl(contextOf(command)),
    )
  org
    .command('list')
    .description('the certificates that were issued')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/organization.ts')).orgList(contextOf(command)),
    )
  return [org]
}
