/** What daemons wrote down about themselves, read after a fault: each log must be whole, and no key may have come twice. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkAuditLog, parseKey, readAuditLog, readAuditRecord } from '@agentmesh/sdk'
import type { Member } from '../support/process-mesh.ts'

/** Said of a packet whose keys were used before. */
const KEY_REUSE: ReadonlySet<string> = new Set([
  'RATCHET_DUPLICATE',
  'SEQUENCE_REPEATED',
  'SEQUENCE_REPLAYED',
])

type Line = ReturnType<typeof readAuditLog> extends Iterable<infer T> ? T : never

function linesOf({ home }: Member): Line[] {
  return [...readAuditLog(join(home, 'logs'))]
}

export function eventsOf(member: Member): string[] {
  return linesOf(member).map(({ event }) => event)
}

/**
 * Keys used twice, as this member wrote it down: packets it refused because their place in the session was taken, and
 * messages it sealed at a place where it had sealed one before.
 */
export function keyReuse(member: Member): string[] {
  const places = new Set<string>()
  return linesOf(member)
    .filter(({ event, code, session_id, seq }) => {
      if (event === 'message_refused') return KEY_REUSE.has(String(code))
      if (event !== 'message_sent') return false
      const place = `${String(session_id)} ${String(seq)}`
      const taken = places.has(place)
      places.add(place)
      return taken
    })
    .map((line) => `${member.home}: ${JSON.stringify(line)}`)
}

/** Lines of these events, and whatever a check finds of the chain and its end; the daemon has ended. */
export async function logProblems(member: Member, unwanted: ReadonlySet<string>): Promise<string[]> {
  const { home } = member
  const { signing_public_key } = JSON.parse(readFileSync(join(home, 'keys', 'identity.json'), 'utf8')) as {
    signing_public_key: string
  }
  const key = parseKey('ed25519', signing_public_key)
  const { gaps } = await checkAuditLog(join(home, 'logs'), key, readAuditRecord(home))
  const lines = linesOf(member).filter(({ event }) => unwanted.has(event))
  return [...lines, ...gaps].map((problem) => `${home}: ${JSON.stringify(problem)}`)
}
