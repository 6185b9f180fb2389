/**
 * What the `format` of a standard schema means. Wider than the envelope's own: a flight leaves at a local time, so
 * `date-time` takes an offset here.
 */
import { isAmid } from '../ids.ts'

const DATE = /^(\d{4})-(\d{2})-(\d{2})$/
const DATE_TIME = /^(\d{4}-\d{2}-\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-](\d{2}):(\d{2}))$/

/** A date that exists, `YYYY-MM-DD` (ISO 8601). */
export function isCalendarDate(text: string): boolean {
  if (!DATE.test(text)) return false
  const at = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text)
}

/** RFC 3339 with `Z` or an offset; no leap second. */
export function isDateTime(text: string): boolean {
  const parts = DATE_TIME.exec(text)
  if (!parts) return false
  const [, date, hour, minute, second, , , offsetHour = '00', offsetMinute = '00'] = parts
  return (
    isCalendarDate(date!) &&
    Number(hour) < 24 &&
    Number(minute) < 60 &&
    Number(second) < 60 &&
    Number(offsetHour) < 24 &&
    Number(offsetMinute) < 60
  )
}

/** The formats a schema may name, each with its check. */
export const SCHEMA_FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  amid: isAmid,
  date: isCalendarDate,
  'date-time': isDateTime,
}
