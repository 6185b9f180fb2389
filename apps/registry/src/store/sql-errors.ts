/** Which rule of a table was broken, in either database's words. */

export function isForeignKeyError(error: unknown): boolean {
  return breaks(error, '23503', 'FOREIGN KEY constraint failed')
}

export function isUniqueError(error: unknown): boolean {
  return breaks(error, '23505', 'UNIQUE constraint failed')
}

function breaks(error: unknown, postgresCode: string, sqliteText: string): boolean {
  if (!(error instanceof Error)) return false
  return (error as { code?: unknown }).code === postgresCode || error.message.includes(sqliteText)
}
