/**
 * Verifications under way, which any of several registries on one database may finish.
 *
 * What is promised here is what only the database can: an attempt belongs to the AMID that started it, ends by its time,
 * is used once, and its code is guessed at a limited number of times.
 */
import { sql, type Kysely } from 'kysely'
import { AgentMeshError, type Amid } from '@agentmesh/sdk/wire'
import { isForeignKeyError, isUniqueError } from './sql-errors.ts'
import type { Tables } from './tables.ts'

interface Attempt {
  /** Random; at most 64 characters of ASCII. */
  readonly id: string
  readonly amid: Amid
  readonly provider: string
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface BrowserDetails {
  readonly nonce: string
  readonly redirectUri: string
  readonly codeChallenge: string
}

export interface DeviceDetails {
  readonly deviceCode: string
}

export interface BrowserAttempt extends Attempt {
  readonly state: string
  readonly details: BrowserDetails
}

export interface DeviceAttempt extends Attempt {
  readonly details: DeviceDetails
  readonly intervalSeconds: number
}

export interface Bounds {
  /** Attempts of one AMID at a time; the oldest gives way. */
  readonly perAgent: number
  readonly now: number
}

export interface SentCode {
  readonly id: string
  /** Keyed hash of the address. */
  readonly address: string
  /** Keyed hash of the code. */
  readonly code: string
  /** Mails to one address within the life of an attempt. */
  readonly perAddress: number
  readonly now: number
}

export interface Asked<T> {
  readonly provider: string
  readonly details: T
}

export type DeviceClaim = { readonly intervalSeconds: number } & (
  | Asked<DeviceDetails>
  | { readonly details?: undefined }
)

export interface VerificationStore {
  /** These three rejected with NOT_REGISTERED keep nothing. */
  addBrowser(attempt: BrowserAttempt, bounds: Bounds): Promise<void>
  addDevice(attempt: DeviceAttempt, bounds: Bounds): Promise<void>
  addEmail(attempt: Attempt, bounds: Bounds): Promise<void>

  /** Takes the attempt away for good. Undefined: unknown, another agent's, used, or past its time. */
  takeBrowser(
    id: string,
    amid: Amid,
    now: number,
  ): Promise<(Asked<BrowserDetails> & { state: string }) | undefined>
  /** Where the browser that comes back with this state is to be sent. */
  redirectOf(state: string, now: number): Promise<string | undefined>

  /** The right to ask the provider once; without details when it was asked less than the interval ago. */
  claimDevice(id: string, amid: Amid, now: number): Promise<DeviceClaim | undefined>
  /** Makes the interval longer, as the provider demands. */
  slowDevice(id: string, intervalSeconds: number, now: number): Promise<void>

  /** Notes the code of an attempt. False when the address had its mails already: then none is to be sent. */
  sendCode(sent: SentCode): Promise<boolean>
  /** Counts one try. `code` is undefined when no mail was sent. */
  tryCode(
    id: string,
    amid: Amid,
    maxAttempts: number,
    now: number,
  ): Promise<{ provider: string; code: string | undefined; address: string | undefined } | undefined>

  /** True for the one caller that ends the attempt. */
  end(id: string, amid: Amid, now: number): Promise<boolean>
  purge(now: number): Promise<void>
}

type Run = <T>(operation: string, work: () => Promise<T>) => Promise<T>

export class SqlVerificationStore implements VerificationStore {
  readonly #db: Kysely<Tables>
  readonly #run: Run

  /** @param run turns what a driver throws into STORE_FAILED */
  constructor(db: Kysely<Tables>, run: Run) {
    this.#db = db
    this.#run = run
  }

  addBrowser(attempt: BrowserAttempt, bounds: Bounds): Promise<void> {
    return this.#add(attempt, 'browser', bounds, { state: attempt.state, details: attempt.details })
  }

  addDevice(attempt: DeviceAttempt, bounds: Bounds): Promise<void> {
    const { details, intervalSeconds } = attempt
    return this.#add(attempt, 'device', bounds, { details, intervalSeconds })
  }

  addEmail(attempt: Attempt, bounds: Bounds): Promise<void> {
    return this.#add(attempt, 'email', bounds, { details: {} })
  }

  #add(
    { id, amid, provider, expiresAt }: Attempt,
    way: string,
    { perAgent, now }: Bounds,
    more: { state?: string; details: object; intervalSeconds?: number },
  ): Promise<void> {
    const { state = null, details, intervalSeconds = 0 } = more
    return this.#run('start verification', () =>
      this.#db.transaction().execute(async (tx) => {
        try {
          await tx
            .insertInto('verifications')
            .values({
              id,
              amid,
              way,
              provider,
              state,
              details: JSON.stringify(details),
              address: null,
              place: null,
              attempts: 0,
              next_at: now + intervalSeconds * 1000,
              interval_seconds: intervalSeconds,
              expires_at: expiresAt,
            })
            .execute()
        } catch (error) {
          if (isForeignKeyError(error)) throw new AgentMeshError('NOT_REGISTERED')
          throw error
        }
        // A mail that was sent keeps its place at its address: giving way would let it be sent again.
        await tx
          .deleteFrom('verifications')
          .where('amid', '=', amid)
          .where('address', 'is', null)
          .where('id', 'not in', (query) =>
            query
              .selectFrom('verifications')
              .select('id')
              .where('amid', '=', amid)
              .orderBy('expires_at', 'desc')
              .orderBy('id', 'asc')
              .limit(perAgent),
          )
          .where('id', '<>', id)
          .execute()
      }),
    )
  }

  takeBrowser(
    id: string,
    amid: Amid,
    now: number,
  ): Promise<(Asked<BrowserDetails> & { state: string }) | undefined> {
    return this.#run('take verification', async () => {
      const row = await this.#db
        .deleteFrom('verifications')
        .where('id', '=', id)
        .where('amid', '=', amid)
        .where('way', '=', 'browser')
        .where('expires_at', '>', now)
        .returning(['provider', 'state', 'details'])
        .executeTakeFirst()
      if (row === undefined) return undefined
      const details = JSON.parse(row.details) as BrowserDetails
      return { provider: row.provider, state: row.state ?? '', details }
    })
  }

  redirectOf(state: string, now: number): Promise<string | undefined> {
    return this.#run('find verification', async () => {
      const row = await this.#db
        .selectFrom('verifications')
        .select('details')
        .where('state', '=', state)
        .where('expires_at', '>', now)
        .executeTakeFirst()
      return row === undefined ? undefined : (JSON.parse(row.details) as BrowserDetails).redirectUri
    })
  }

  claimDevice(id: string, amid: Amid, now: number): Promise<DeviceClaim | undefined> {
    return this.#run('claim verification', async () => {
      const row = await this.#db
        .updateTable('verifications')
        .set((eb) => ({ next_at: eb(eb('interval_seconds', '*', 1000), '+', now) }))
        .where('id', '=', id)
        .where('amid', '=', amid)
        .where('way', '=', 'device')
        .where('next_at', '<=', now)
        .where('expires_at', '>', now)
        .returning(['provider', 'details', 'interval_seconds'])
        .executeTakeFirst()
      if (row !== undefined) {
        const { provider, details, interval_seconds: intervalSeconds } = row
        return { provider, intervalSeconds, details: JSON.parse(details) as DeviceDetails }
      }
      const waiting = await this.#db
        .selectFrom('verifications')
        .select('interval_seconds as intervalSeconds')
        .where('id', '=', id)
        .where('amid', '=', amid)
        .where('way', '=', 'device')
        .where('expires_at', '>', now)
        .executeTakeFirst()
      return waiting
    })
  }

  async slowDevice(id: string, intervalSeconds: number, now: number): Promise<void> {
    await this.#run('slow verification', () =>
      this.#db
        .updateTable('verifications')
        .set({ interval_seconds: intervalSeconds, next_at: now + intervalSeconds * 1000 })
        .where('id', '=', id)
        .execute(),
    )
  }

  sendCode({ id, address, code, perAddress, now }: SentCode): Promise<boolean> {
    return this.#run('note a code', async () => {
      await this.#db
        .deleteFrom('verifications')
        .where('address', '=', address)
        .where('expires_at', '<=', now)
        .execute()
      for (let attempt = 0; ; attempt += 1) {
        try {
          return await this.#takePlace(id, address, code, perAddress)
        } catch (error) {
          // Another mail to the address took the place meanwhile; so many can.
          if (!isUniqueError(error) || attempt === perAddress) throw error
        }
      }
    })
  }

  /** The lowest free place at an address; one statement, whether there is one or not. */
  async #takePlace(id: string, address: string, code: string, perAddress: number): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable('verifications')
      .set({
        address,
        details: JSON.stringify({ code }),
        place: sql<number>`(
          select min(free.place) from (
            select 0 as place union all select place + 1 from verifications where address = ${address}
          ) as free where free.place not in (select place from verifications where address = ${address})
        )`,
      })
      .where('id', '=', id)
      .where('way', '=', 'email')
      .where((eb) =>
        eb(
          eb
            .selectFrom('verifications as sent')
            .select(eb.fn.countAll<number>().as('count'))
            .where('sent.address', '=', address),
          '<',
          perAddress,
        ),
      )
      .executeTakeFirstOrThrow()
    return numUpdatedRows === 1n
  }

  tryCode(
    id: string,
    amid: Amid,
    maxAttempts: number,
    now: number,
  ): Promise<{ provider: string; code: string | undefined; address: string | undefined } | undefined> {
    return this.#run('try a code', async () => {
      const row = await this.#db
        .updateTable('verifications')
        .set((eb) => ({ attempts: eb('attempts', '+', 1) }))
        .where('id', '=', id)
        .where('amid', '=', amid)
        .where('way', '=', 'email')
        .where('attempts', '<', maxAttempts)
        .where('expires_at', '>', now)
        .returning(['provider', 'details', 'address'])
        .executeTakeFirst()
      if (row === undefined) return undefined
      const { code } = JSON.parse(row.details) as { code?: string }
      return { provider: row.provider, code, address: row.address ?? undefined }
    })
  }

  end(id: string, amid: Amid, now: number): Promise<boolean> {
    return this.#run('end verification', async () => {
      const { numDeletedRows } = await this.#db
        .deleteFrom('verifications')
        .where('id', '=', id)
        .where('amid', '=', amid)
        .where('expires_at', '>', now)
        .executeTakeFirstOrThrow()
      return numDeletedRows === 1n
    })
  }

  async purge(now: number): Promise<void> {
    await this.#run('purge verifications', () =>
      this.#db.deleteFrom('verifications').where('expires_at', '<=', now).execute(),
    )
  }
}
