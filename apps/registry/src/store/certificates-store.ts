/**
 * Queries of the certificate authority, over both databases. What changes something takes the caller's transaction, so that a
 * certificate, its entry in the log and the tier it stands for are one step.
 */
import type { Kysely, Selectable, Transaction } from 'kysely'
import { MAX_SUCCESSIONS, TIERS, tierRank, type Amid, type TierNumber } from '@agentmesh/sdk/wire'
import { startingScore } from '../reputation/score.ts'
import type { CertificateKind, OrganizationStatus } from './certificates-tables.ts'
import { guarded } from './guard.ts'
import { agree, memberships, memberSince, unfounded } from './membership-queries.ts'
import { placeOffers } from './offers.ts'
import type { Tables } from './tables.ts'

export type StoredCertificate = Selectable<Tables['certificates']>
export type StoredOrganization = Selectable<Tables['organizations']>
export type StoredList = Selectable<Tables['revocation_lists']>
type Tx = Transaction<Tables>

export interface NewCertificate {
  readonly issuer: string
  readonly serial: string
  readonly kind: CertificateKind
  readonly subject: string
  readonly amid: Amid | null
  readonly der: string
  readonly notBefore: number
  readonly notAfter: number
}

export interface Standing {
  readonly tier: TierNumber
  readonly verifiedName: string | null
  readonly organization: string | null
}

export class CertificatesStore {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  // --- certificates

  /** False when it is there already. */
  async add(tx: Tx, certificate: NewCertificate): Promise<boolean> {
    const { notBefore, notAfter, ...rest } = certificate
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto('certificates')
      .values({
        ...rest,
        not_before: notBefore,
        not_after: notAfter,
        revoked_at: null,
        reason: null,
        agreed_at: null,
      })
      .onConflict((conflict) => conflict.columns(['issuer', 'serial']).doNothing())
      .executeTakeFirstOrThrow()
    return numInsertedOrUpdatedRows === 1n
  }

  /** The one of the kind that a key holds longest, if any holds at `now`. */
  newest(
    kind: CertificateKind,
    subject: string,
    now: number,
    db: Kysely<Tables> = this.#db,
  ): Promise<StoredCertificate | undefined> {
    return guarded('read a certificate', () =>
      db
        .selectFrom('certificates')
        .selectAll()
        .where('subject', '=', subject)
        .where('kind', '=', kind)
        .where('not_after', '>', now)
        .where('revoked_at', 'is', null)
        .orderBy('not_after', 'desc')
        .limit(1)
        .executeTakeFirst(),
    )
  }

  /** The certificate that an agent holds longest under an issuer, if any holds at `now`. */
  newestOfAgent(amid: Amid, issuer: string, now: number): Promise<StoredCertificate | undefined> {
    return guarded('read a certificate', () =>
      this.#db
        .selectFrom('certificates')
        .selectAll()
        .where('amid', '=', amid)
        .where('kind', '=', 'agent')
        .where('issuer', '=', issuer)
        .where('not_after', '>', now)
        .where('revoked_at', 'is', null)
        .orderBy('not_after', 'desc')
        .limit(1)
        .executeTakeFirst(),
    )
  }

  async isRevoked(tx: Tx, issuer: string, serial: string): Promise<boolean> {
    const row = await tx
      .selectFrom('certificates')
      .select('revoked_at')
      .where('issuer', '=', issuer)
      .where('serial', '=', serial)
      .executeTakeFirst()
    return row !== undefined && row.revoked_at !== null
  }

  /** Agent certificates of an issuer that are in date and not revoked. */
  held(tx: Tx, issuer: string, now: number): Promise<Pick<StoredCertificate, 'serial' | 'amid'>[]> {
    return tx
      .selectFrom('certificates')
      .select(['serial', 'amid'])
      .where('issuer', '=', issuer)
      .where('kind', '=', 'agent')
      .where('not_after', '>', now)
      .where('revoked_at', 'is', null)
      .execute()
  }

  /** Marks what is in date and not revoked yet, of an agent, a key or under an issuer. */
  revoke(
    tx: Tx,
    which: {
      readonly kind: CertificateKind
      readonly issuer?: string
      readonly amid?: Amid
      readonly subject?: string
      readonly serial?: string
    },
    reason: string,
    now: number,
  ): Promise<Pick<StoredCertificate, 'issuer' | 'serial' | 'amid'>[]> {
    let query = tx
      .updateTable('certificates')
      .set({ revoked_at: now, reason })
      .where('kind', '=', which.kind)
      .where('not_after', '>', now)
      .where('revoked_at', 'is', null)
    if (which.issuer !== undefined) query = query.where('issuer', '=', which.issuer)
    if (which.amid !== undefined) query = query.where('amid', '=', which.amid)
    if (which.subject !== undefined) query = query.where('subject', '=', which.subject)
    if (which.serial !== undefined) query = query.where('serial', '=', which.serial)
    return query.returning(['issuer', 'serial', 'amid']).execute()
  }

  /** Of an issuer, and in date since `since`: what a revocation list names. */
  revoked(tx: Tx, issuer: string, since: number): Promise<StoredCertificate[]> {
    return tx
      .selectFrom('certificates')
      .selectAll()
      .where('issuer', '=', issuer)
      .where('revoked_at', 'is not', null)
      .where('not_after', '>', since)
      .orderBy('serial')
      .execute()
  }

  /** Agents with a certificate in date under an issuer. */
  async membersOf(tx: Tx, issuer: string, now: number): Promise<Amid[]> {
    const rows = await tx
      .selectFrom('certificates')
      .select('amid')
      .distinct()
      .where('issuer', '=', issuer)
      .where('kind', '=', 'agent')
      .where('not_after', '>', now)
      .where('revoked_at', 'is', null)
      .execute()
    return rows.flatMap(({ amid }) => (amid === null ? [] : [amid]))
  }

  /** An agent brought a certificate itself. */
  agree(
    tx: Tx,
    { issuer, serial }: Pick<StoredCertificate, 'issuer' | 'serial'>,
    now: number,
  ): Promise<void> {
    return agree(tx, issuer, serial, now)
  }

  memberSince(amid: Amid, now: number): Promise<number | undefined> {
    return guarded('read a membership', () => memberSince(this.#db, amid, now))
  }

  unfounded(now: number, limit: number): Promise<Amid[]> {
    return guarded('read memberships', () => unfounded(this.#db, now, limit))
  }

  /** The organisation under which an agent has a certificate that holds and that it agreed to, if any. */
  organizationOfAgent(tx: Tx, amid: Amid, now: number): Promise<StoredOrganization | undefined> {
    return memberships(tx, amid, now)
      .innerJoin('organizations', 'organizations.amid', 'above.amid')
      .selectAll('organizations')
      .executeTakeFirst()
  }

  /** The newest certificate that an organisation in force issued to an agent, and the organisation's own; base64 DER. */
  membership(amid: Amid, now: number): Promise<{ agent: string; organization: string } | undefined> {
    return guarded('read a membership', () =>
      memberships(this.#db, amid, now)
        .select(['certificates.der as agent', 'above.der as organization'])
        .executeTakeFirst(),
    )
  }

  /** Members of organisations whose certificate ended between two times. */
  async lapsed(from: number, to: number, limit: number): Promise<Amid[]> {
    const rows = await guarded('read memberships', () =>
      this.#db
        .selectFrom('certificates')
        .innerJoin('agents', 'agents.amid', 'certificates.amid')
        .select('agents.amid')
        .distinct()
        .where('certificates.kind', '=', 'agent')
        .where('certificates.not_after', '>', from)
        .where('certificates.not_after', '<=', to)
        .where('agents.tier_rank', '=', TIERS.organization.rank)
        .limit(limit)
        .execute(),
    )
    return rows.map(({ amid }) => amid)
  }

  // --- revocation lists

  list(issuer: string): Promise<StoredList | undefined> {
    return guarded('read a revocation list', () =>
      this.#db.selectFrom('revocation_lists').selectAll().where('issuer', '=', issuer).executeTakeFirst(),
    )
  }

  /** Takes the next number of an issuer's list, and with it the turn: another transaction of the same issuer waits. */
  async nextListNumber(tx: Tx, issuer: string): Promise<number> {
    const { number } = await tx
      .insertInto('revocation_lists')
      .values({ issuer, number: 1, der: '', this_update: 0, next_update: 0 })
      .onConflict((conflict) =>
        conflict.column('issuer').doUpdateSet((eb) => ({ number: eb('revocation_lists.number', '+', 1) })),
      )
      .returning('number')
      .executeTakeFirstOrThrow()
    return number
  }

  async putList(tx: Tx, list: StoredList): Promise<void> {
    const { issuer, ...columns } = list
    await tx.updateTable('revocation_lists').set(columns).where('issuer', '=', issuer).execute()
  }

  /** An issuer's own list. False when the stored one is as new. */
  async putForeignList(tx: Tx, list: StoredList): Promise<boolean> {
    const { issuer: _, ...columns } = list
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto('revocation_lists')
      .values(list)
      .onConflict((conflict) =>
        conflict.column('issuer').doUpdateSet(columns).where('revocation_lists.number', '<', list.number),
      )
      .executeTakeFirstOrThrow()
    return numInsertedOrUpdatedRows === 1n
  }

  // --- agents

  /** Others who change the same agent wait for the transaction. False when it is not registered. */
  async lockAgent(tx: Tx, amid: Amid): Promise<boolean> {
    const { numUpdatedRows } = await tx
      .updateTable('agents')
      .set((eb) => ({ tier_rank: eb.ref('tier_rank') }))
      .where('amid', '=', amid)
      .executeTakeFirstOrThrow()
    return numUpdatedRows === 1n
  }

  /** False when the agent is not registered. */
  async setStanding(tx: Tx, amid: Amid, standing: Standing): Promise<boolean> {
    const { numUpdatedRows } = await tx
      .updateTable('agents')
      .set({
        tier: standing.tier,
        tier_rank: tierRank(standing.tier),
        verified_name: standing.verifiedName,
        organization: standing.organization,
      })
      .where('amid', '=', amid)
      .executeTakeFirstOrThrow()
    // Who has a score is evaluated anew at once; anybody else starts where the tier does.
    const evaluated = await tx
      .updateTable('reputation_scores')
      .set({ due_at: 0 })
      .where('amid', '=', amid)
      .executeTakeFirstOrThrow()
    if (evaluated.numUpdatedRows === 0n) {
      const reputation = startingScore(standing.tier)
      await tx.updateTable('agents').set({ reputation }).where('amid', '=', amid).execute()
    }
    await placeOffers(tx, [amid])
    return numUpdatedRows === 1n
  }

  /** The first one that the agent named here, also when it is not registered any more. */
  async recoveryKey(tx: Tx, amid: Amid): Promise<string | undefined> {
    const row = await tx
      .selectFrom('recovery_keys')
      .select('recovery_key')
      .where('amid', '=', amid)
      .executeTakeFirst()
    return row?.recovery_key
  }

  // --- humans

  /** Others who ask about the same human wait for the transaction. */
  async lockHuman(tx: Tx, human: string, now: number): Promise<void> {
    await tx
      .insertInto('humans')
      .values({ human, verified_at: now })
      .onConflict((conflict) => conflict.column('human').doUpdateSet({ verified_at: now }))
      .execute()
  }

  /** Puts a registered agent under a human, whose lock is held, and returns how many agents the human has. */
  async addAgentOfHuman(tx: Tx, agent: Tables['verified_agents']): Promise<number> {
    const { human, display_name } = agent
    await tx
      .insertInto('verified_agents')
      .values(agent)
      // Since when it is this human's stays: what was rated before is judged by it.
      .onConflict((conflict) => conflict.column('amid').doUpdateSet({ human, display_name }))
      .execute()
    const { count } = await tx
      .selectFrom('verified_agents')
      .select((eb) => eb.fn.countAll<number>().as('count'))
      .where('human', '=', agent.human)
      .executeTakeFirstOrThrow()
    return count
  }

  verifiedAgent(
    amid: Amid,
    db: Kysely<Tables> = this.#db,
  ): Promise<Selectable<Tables['verified_agents']> | undefined> {
    return guarded('read a verification', () =>
      db.selectFrom('verified_agents').selectAll().where('amid', '=', amid).executeTakeFirst(),
    )
  }

  /** The human behind an agent, as the keyed hash. */
  async humanOf(amid: Amid): Promise<string | undefined> {
    return (await this.verifiedAgent(amid))?.human
  }

  async dropVerifiedAgent(tx: Tx, amid: Amid): Promise<void> {
    await tx.deleteFrom('verified_agents').where('amid', '=', amid).execute()
  }

  // --- organisations

  /** Asks for a domain. An organisation that is verified stays as it is. */
  async putOrganization(
    tx: Tx,
    organization: Pick<StoredOrganization, 'amid' | 'public_key' | 'domain' | 'name'>,
    now: number,
  ): Promise<void> {
    const columns = { domain: organization.domain, name: organization.name, status: 'pending' as const }
    await tx
      .insertInto('organizations')
      .values({ ...organization, status: 'pending', created_at: now, checked_at: 0, lost_at: null })
      .onConflict((conflict) =>
        conflict
          .column('amid')
          .doUpdateSet(columns)
          .where('organizations.status', 'not in', ['verified', 'grace']),
      )
      .execute()
  }

  organization(amid: Amid, db: Kysely<Tables> = this.#db): Promise<StoredOrganization | undefined> {
    return guarded('read an organisation', () =>
      db.selectFrom('organizations').selectAll().where('amid', '=', amid).executeTakeFirst(),
    )
  }

  /** The organisation that holds a domain. */
  holderOf(tx: Tx, domain: string): Promise<StoredOrganization | undefined> {
    return tx
      .selectFrom('organizations')
      .selectAll()
      .where('domain', '=', domain)
      .where('status', 'in', ['verified', 'grace'])
      .executeTakeFirst()
  }

  async setOrganization(
    tx: Tx,
    amid: Amid,
    columns: {
      readonly status?: OrganizationStatus
      readonly checked_at?: number
      readonly lost_at?: number | null
    },
  ): Promise<void> {
    await tx.updateTable('organizations').set(columns).where('amid', '=', amid).execute()
  }

  /** Organisations whose agents count as its own. */
  inForce(): Promise<StoredOrganization[]> {
    return guarded('read organisations', () =>
      this.#db
        .selectFrom('organizations')
        .selectAll()
        .where('status', 'in', ['verified', 'grace'])
        .orderBy('amid')
        .execute(),
    )
  }

  /** Takes up to `limit` organisations not checked since `before` for this process to check; no other takes the same. */
  async takeDue(before: number, now: number, limit: number): Promise<StoredOrganization[]> {
    return guarded('take organisations to check', () =>
      this.#db
        .updateTable('organizations')
        .set({ checked_at: now })
        .where('status', 'in', ['verified', 'grace'])
        .where('checked_at', '<', before)
        .where('amid', 'in', (eb) =>
          eb
            .selectFrom('organizations')
            .select('amid')
            .where('status', 'in', ['verified', 'grace'])
            .where('checked_at', '<', before)
            .orderBy('checked_at')
            .limit(limit),
        )
        .returningAll()
        .execute(),
    )
  }

  // --- successions

  /** The successor that stands: this one, or the one that was there before. */
  async addSuccession(tx: Tx, row: Selectable<Tables['successions']>): Promise<Amid> {
    await tx
      .insertInto('successions')
      .values(row)
      .onConflict((conflict) => conflict.column('old_amid').doNothing())
      .execute()
    const stored = await tx
      .selectFrom('successions')
      .select('new_amid')
      .where('old_amid', '=', row.old_amid)
      .executeTakeFirstOrThrow()
    return stored.new_amid
  }

  /** The statement that ended an AMID first, then those of the AMIDs it took over, newest first. */
  async successionsOf(amid: Amid): Promise<string[]> {
    const rows = await guarded('read successions', async () => {
      const select = this.#db.selectFrom('successions').select('statement')
      const own = await select.where('old_amid', '=', amid).execute()
      const others = select.where('new_amid', '=', amid).orderBy('taken_at', 'desc')
      return [...own, ...(await others.limit(MAX_SUCCESSIONS - own.length).execute())]
    })
    return rows.map(({ statement }) => statement)
  }

  async successorOf(tx: Tx, amid: Amid): Promise<Amid | undefined> {
    const row = await tx
      .selectFrom('successions')
      .select('new_amid')
      .where('old_amid', '=', amid)
      .executeTakeFirst()
    return row?.new_amid
  }
}
