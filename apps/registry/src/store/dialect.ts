/** What the two engines write differently in a schema. */
import { sql, type RawBuilder } from 'kysely'

export type Dialect = 'sqlite' | 'postgres'

/** The type of text that is compared and sorted byte by byte, as SQLite does by itself. */
export function bytewiseText(dialect: Dialect): RawBuilder<unknown> {
  return dialect === 'postgres' ? sql`text collate "C"` : sql`text`
}
