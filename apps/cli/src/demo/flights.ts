/** What the demonstration asks for, and its own count of what the answer must be. */
import { readFileSync } from 'node:fs'

const DAY_MS = 86_400_000

const TIMETABLE = new URL('../../../../examples/travel-agent/timetable.csv', import.meta.url)
export const PROGRAM = new URL('../../../../examples/travel-agent/flights.mjs', import.meta.url)

export interface FlightSearch {
  readonly origin: string
  readonly destination: string
  /** YYYY-MM-DD */
  readonly date: string
  readonly passengers: number
  readonly passenger_names: readonly string[]
  readonly preferences: { readonly max_stops: number; readonly wish: string }
}

export interface Flight {
  readonly flight: string
  readonly departure: string
  readonly arrival: string
  readonly stops: number
  readonly price: number
  readonly currency: string
}

/** A date three weeks ahead, so that no timestamp of the day is mistaken for it. */
export function travelDate(now: number): string {
  return new Date(now + 21 * DAY_MS).toISOString().slice(0, 10)
}

/** Flight numbers and prices straight from the timetable, cheapest first: what an honest answer lists. */
export function expectedFlights(search: FlightSearch, maxPrice: number): { flight: string; price: number }[] {
  const weekday = String(new Date(search.date).getUTCDay() || 7)
  const rows = readFileSync(TIMETABLE, 'utf8').trim().split('\n').slice(1)
  return rows
    .map((row) => row.split(','))
    .filter(([, origin, destination, days]) => {
      return (
        origin === search.origin && destination === search.destination && days?.includes(weekday) === true
      )
    })
    .filter((row) => Number(row[9]) >= search.passengers && Number(row[6]) <= search.preferences.max_stops)
    .map((row) => ({ flight: row[0] ?? '', price: Number(row[7]) * search.passengers }))
    .filter(({ price }) => price <= maxPrice)
    .toSorted((left, right) => left.price - right.price)
}
