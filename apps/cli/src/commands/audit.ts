/**
 * `audit`, `audit verify` and `audit acknowledge`: the log of what the agent did, whether it is as it was written, and the
 * owner's word on where it is not.
 */
import { join } from 'node:path'
import {
  checkAuditLog,
  escapeText,
  isAgentMeshError,
  parseKey,
  readAuditLog,
  readAuditRecord,
  type AuditCheck,
  type AuditRecord,
} from '@agentmesh/sdk'
import { Home, readPublicIdentity } from '@agentmesh/sdk/identity'
import { EXIT } from '../exit-codes.ts'
import { color, jsonLine, print, show, type Context } from '../output.ts'
import { clientOf, homePath, readPassphrase, unlessDown } from './shared.ts'

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

export async function auditVerify(context: Context, options: { passphrasePrompt?: boolean }): Promise<void> {
  const home = Home.open(homePath(context))
  const key = parseKey('ed25519', readPublicIdentity(home).signing_public_key)
  const record = await recordOf(context, options)
  const check = await checkAuditLog(join(home.path, AUDIT_FOLDER), key, record)
  const open = check.gaps.filter((gap) => gap.acknowledged_at === undefined)
  show(context, check, () => describeCheck(check, open.length))
  if (open.length > 0) process.exitCode = EXIT.auditGap
  else if (!check.ok) process.exitCode = EXIT.failure
}

/** Of the daemon, or of the home's state; undefined when that is sealed under a passphrase that was not given. */
async function recordOf(
  context: Context,
  options: { passphrasePrompt?: boolean },
): Promise<AuditRecord | undefined> {
  const running = await unlessDown(clientOf(context).auditRecord())
  if (running !== undefined) return running
  const passphrase = await readPassphrase(options)
  try {
    return readAuditRecord(homePath(context), passphrase)
  } catch (error) {
    if (isAgentMeshError(error, 'PASSPHRASE_REQUIRED')) return undefined
    throw error
  }
}

function describeCheck(check: AuditCheck, open: number): string {
  const { lines, unsignedLines, endChecked, gaps } = check
  const verdict =
    open > 0
      ? color.red(`The log has ${open === 1 ? 'a gap' : `${open} gaps`} that you have not acknowledged`)
      : endChecked
        ? color.green('The log is whole')
        : color.red('End not checked: the keys are under a passphrase, and no daemon runs')
  const unsigned = unsignedLines === 0 ? '' : `, ${unsignedLines} not yet under the signed head`
  const found = gaps.map(({ id, kind, file, line, detail, acknowledged_at }) => {
    const place = [file, line].filter((part) => part !== undefined).join(':')
    const known = acknowledged_at === undefined ? '' : ` (acknowledged ${acknowledged_at})`
    return escapeText(`  ${[id, kind, place, detail].filter(Boolean).join(' ')}${known}`)
  })
  const advice = open === 0 ? [] : ['Once you know what happened: agentmesh audit acknowledge <id>']
  return [`${verdict}: ${lines} lines${unsigned}.`, ...found, ...advice].join('\n')
}

export async function auditAcknowledge(context: Context, gap: string): Promise<void> {
  await clientOf(context).acknowledgeGap(gap)
  show(context, { gap, acknowledged: true }, () => `The gap ${escapeText(gap)} is acknowledged.`)
}
