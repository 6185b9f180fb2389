/**
 * Who is in an organisation, by the certificates: an organisation can certify any key, so one counts only from when its agent
 * agreed, by bringing it here in a request of its own.
 */
import type { Kysely, Transaction } from 'kysely'
import { TIERS, type Amid } from '@agentmesh/sdk/wire'
import type { Tables } from './tables.ts'

/** What an agent holds, and agreed to, of organisations whose own certificate holds; the one that lasts longest. */
export function memberships(db: Kysely<Tables>, amid: Amid, now: number) {
  return inForce(db, now)
    .where('certificates.amid', '=', amid)
    .orderBy('certificates.not_after', 'desc')
    .limit(1)
}

function inForce(db: Kysely<Tables>, now: number) {
  return db
    .selectFrom('certificates')
    .innerJoin('certificates as above', 'above.subject', 'certificates.issuer')
    .where('certificates.kind', '=', 'agent')
    .where('certificates.agreed_at', 'is not', null)
    .where('certificates.not_after', '>', now)
    .where('certificates.revoked_at', 'is', null)
    .where('above.kind', '=', 'organization')
    .where('above.not_after', '>', now)
    .where('above.revoked_at', 'is', null)
}

/** The agent agrees to a certificate that is stored; the first time counts. */
export async function agree(
  tx: Transaction<Tables>,
  issuer: string,
  serial: string,
  now: number,
): Promise<void> {
  await tx
    .updateTable('certificates')
    .set({ agreed_at: now })
    .where('issuer', '=', issuer)
    .where('serial', '=', serial)
    .where('agreed_at', 'is', null)
    .execute()
}

/** When an agent first agreed to be in the organisation that it is in at `now`, if it is in one. */
export async function memberSince(db: Kysely<Tables>, amid: Amid, now: number): Promise<number | undefined> {
  const current = await memberships(db, amid, now).select('certificates.issuer').executeTakeFirst()
  if (current === undefined) return undefined
  const first = await db
    .selectFrom('certificates')
    .select((eb) => eb.fn.min('agreed_at').as('since'))
    .where('amid', '=', amid)
    .where('issuer', '=', current.issuer)
    .executeTakeFirst()
  return first?.since ?? undefined
}

/** Agents that stand as an organisation's with no membership that holds. */
export async function unfounded(db: Kysely<Tables>, now: number, limit: number): Promise<Amid[]> {
  const rows = await db
    .selectFrom('agents')
    .select('amid')
    .where('tier_rank', '=', TIERS.organization.rank)
    .where(
      'amid',
      'not in',
      inForce(db, now).where('certificates.amid', 'is not', null).select('certificates.amid'),
    )
    .limit(limit)
    .execute()
  return rows.map(({ amid }) => amid)
}
