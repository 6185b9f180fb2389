/** What a database says went wrong, in either one's words. */

export function isForeignKeyError(error: unknown): boolean {
  return breaks(error, '23503', 'FOREIGN KEY constraint failed')
}

export function isUniqueError(error: unknown): boolean {
  return breaks(error, '23505', 'UNIQUE constraint failed')
}

/** The database undid this transaction so that another could go on; it can be done again. */
export function isUndone(error: unknown): boolean {
  return error instanceof Error && ['40001', '40P01'].includes(String((error as { code?: unknown }).code))
}

function breaks(error: unknown, postgresCode: string, sqliteText: string): boolean {
  if (!(error instanceof Error)) return false
  return (error as { code?: unknown }).code === postgresCode || error.message.includes(sqliteText)
}
