/**
 * A travel agent's answering program: one request as JSON on stdin, one answer as JSON on stdout.
 *
 *     agentmesh listen --exec 'node examples/travel-agent/flights.mjs'
 *
 * Looks the flights up in timetable.csv (days: 1 is Monday): by origin, destination, the weekday of the date, free seats
 * for all passengers, stops and price, cheapest first. Times are local to the airport; +1 is the day after.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const SCHEMA = 'agentmesh/travel/flight-results/v1'

export function readTimetable(text = readFileSync(new URL('timetable.csv', import.meta.url), 'utf8')) {
  const [head, ...lines] = text.trim().split('\n')
  const names = head.split(',')
  return lines.map((line) => {
    const cells = line.split(',')
    return Object.fromEntries(names.map((name, column) => [name, cells[column]]))
  })
}

/** @returns what the peer is answered: `{ results, ... }` or `{ error }` */
export function findFlights({ parameters, budget }, timetable) {
  const { origin, destination, date, passengers = 1, preferences = {} } = parameters
  const day =
    typeof date === 'string' && /^\d{4}-\d{2}-\d{2}$/.test(date) ? new Date(`${date}T00:00:00Z`) : undefined
  if (
    typeof origin !== 'string' ||
    typeof destination !== 'string' ||
    day === undefined ||
    Number.isNaN(day.getTime())
  ) {
    return refuse('PARAMETERS_INVALID', 'A flight search needs origin, destination and date (YYYY-MM-DD)')
  }
  if (!Number.isInteger(passengers) || passengers < 1) {
    return refuse('PARAMETERS_INVALID', 'passengers is a whole number from 1')
  }
  const weekday = String(day.getUTCDay() || 7)
  const maxStops = Number(preferences.max_stops ?? Infinity)
  const results = timetable
    .filter((row) => row.origin === origin && row.destination === destination && row.days.includes(weekday))
    .filter((row) => Number(row.seats) >= passengers && Number(row.stops) <= maxStops)
    .map((row) => ({
      flight: row.flight,
      departure: `${date}T${row.departure}`,
      arrival: arrivalOf(date, row.arrival),
      stops: Number(row.stops),
      price: Number(row.price) * passengers,
      currency: row.currency,
      booking_available: true,
      reference: `${row.flight}-${date.replaceAll('-', '')}`,
    }))
    .filter(
      (flight) => budget === undefined || (budget.currency === flight.currency && flight.price <= budget.max),
    )
    .toSorted((left, right) => left.price - right.price)
  return { results, result_count: results.length, schema: SCHEMA }
}

function arrivalOf(date, text) {
  const [time, days] = text.split('+')
  const day = new Date(`${date}T00:00:00Z`)
  day.setUTCDate(day.getUTCDate() + Number(days ?? 0))
  return `${day.toISOString().slice(0, 10)}T${time}`
}

function refuse(code, message) {
  return { error: { code, message } }
}

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const request = JSON.parse(readFileSync(0, 'utf8'))
  const timetable = readTimetable()
  say({ status: 'processing', progress: 0.5, message: `Searching ${timetable.length} connections` })
  say(findFlights(request.payload, timetable))
}
