/** `audit` and `audit verify`: the log of what the agent did, and whether it is as it was written. */
import { join } from 'node:path'
import { escapeText, parseKey, readAuditLog, verifyAuditLog } from '@agentmesh/sdk'
import { Home, readPublicIdentity } from '@agentmesh/sdk/identity'
import { EXIT } from '../exit-codes.ts'
import { color, jsonLine, print, show, type Context } from '../output.ts'
import { homePath } from './shared.ts'

const AUDIT_FOLDER = 'logs'

export async function audit(context: Context, options: { event?: string; limit?: number }): Promise<void> {
  const home = Home.open(homePath(context))
  readPublicIdentity(home)
  const lines = [...readAuditLog(join(home.path, AUDIT_FOLDER))].filter(
    ({ event }) => options.event === undefined || event === options.event,
  )
  for (const line of lines.slice(-(options.limit ?? lines.length))) {
    if (context.json) {
      print(jsonLine(line))
      continue
    }
    const { ts, event, line: number, prev: _prev, ...rest } = line
    const facts = Object.entries(rest).map(
      ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
    )
    print(`${color.dim(`${number} ${ts}`)} ${escapeText(`${event} ${facts.join(' ')}`)}`)
  }
}

export async function auditVerify(context: Context): Promise<void> {
  const home = Home.open(homePath(context))
  const key = parseKey('ed25519', readPublicIdentity(home).signing_public_key)
  const report = await verifyAuditLog(join(home.path, AUDIT_FOLDER), key)
  show(context, report, () => {
    const problems = report.problems.map(({ kind, file, line, detail }) =>
      escapeText(`  ${kind} ${[file, line].filter((part) => part !== undefined).join(':')} ${detail}`),
    )
    const unsigned =
      report.unsignedLines === 0 ? '' : `, ${report.unsignedLines} not yet under the signed head`
    const head = report.ok ? color.green('The log is whole') : color.red('The log was changed')
    return [`${head}: ${report.lines} lines${unsigned}.`, ...problems].join('\n')
  })
  if (!report.ok) process.exitCode = EXIT.failure
}
