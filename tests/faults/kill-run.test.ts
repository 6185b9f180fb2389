/**
 * Fifty times `kill -9` among two daemons and a relay while numbered requests flow both ways, and some more with three
 * relays as one service. Another length or seed: `npm run soak -- --kills N --seed S --relays R`.
 */
import { expect, test } from 'vitest'
import { natsMissing } from '../../apps/relay/src/test-support-nats.ts'
import { drawSchedule, killRun, killsOf } from './kill-run.ts'

const KILLS = 50
const SERVICE_KILLS = 8
const SEED = Number(process.env['FAULTS_SEED'] ?? 20_261_121)

test('a seed draws one schedule, another seed another one, with as many kills as asked for', () => {
  expect(drawSchedule(7, 200)).toEqual(drawSchedule(7, 200))
  expect(drawSchedule(7, 200)).not.toEqual(drawSchedule(8, 200))
  const strikes = drawSchedule(7, 200)
  const killed = strikes.flatMap(({ victims }) => victims)
  expect(killed.length).toBeGreaterThanOrEqual(200)
  expect(killed.length).toBeLessThanOrEqual(201)
  for (const victim of ['alice', 'bob', 'relay'] as const) {
    expect(killed.filter((name) => name === victim).length).toBeGreaterThan(30)
  }
  expect(strikes.some(({ after }) => after === 0)).toBe(true)
})

test(
  'sender, receiver and relay are killed 50 times: every message is handed over once, in order, and answered',
  { timeout: 600_000 },
  async () => {
    console.log(`seed ${SEED} (FAULTS_SEED=${SEED} replays it)`)
    const report = await killRun({ seed: SEED, kills: KILLS })
    console.log(JSON.stringify(report))
    expect(report.problems).toEqual([])
    expect(killsOf(report.kills)).toBeGreaterThanOrEqual(KILLS)
    // Less would mean that the run killed idle programs.
    expect(report.requests).toBeGreaterThan(KILLS)
  },
)

test.skipIf(natsMissing)(
  'three relays, NATS and PostgreSQL are killed beside sender and receiver: the same holds (needs nats-server)',
  { timeout: 600_000 },
  async () => {
    const report = await killRun({ seed: SEED, kills: SERVICE_KILLS, relays: 3 })
    console.log(JSON.stringify(report))
    expect(report.problems).toEqual([])
    expect(killsOf(report.kills)).toBeGreaterThanOrEqual(SERVICE_KILLS)
    expect(Math.min(report.kills.relay, report.kills.nats, report.kills.postgres)).toBeGreaterThan(0)
    expect(report.requests).toBeGreaterThan(SERVICE_KILLS)
  },
)
