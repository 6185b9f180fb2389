/** The demonstration as a newcomer runs it, and that it says so when something does not hold. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { start, type Process } from './cli-harness.ts'

interface Step {
  step: number
  title: string
  ok: boolean
  lines: string[]
  problem?: string
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-demo-test-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const demo = (...args: string[]): Process => start(['demo', ...args], { TMPDIR: folder })
const steps = (process: Process): Step[] => process.lines as unknown as Step[]
const pidOf = (step: Step | undefined, name: string): number =>
  Number(new RegExp(`^${name} .*process (\\d+)`, 'm').exec(step?.lines.join('\n') ?? '')?.[1])
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('every step holds, and it ends with exit code 0 and nothing left behind', async () => {
  const running = demo('--json')
  const { code, stderr } = await running.ended
  expect([code, stderr]).toEqual([0, ''])
  expect(steps(running).map(({ step, ok }) => [step, ok])).toEqual(
    Array.from({ length: 8 }, (_, index) => [index + 1, true]),
  )
  const text = steps(running).map(({ lines }) => lines.join('\n'))
  expect(text[3]).toMatch(/CX2\d\d|HB1\d\d/)
  expect(text[4]).toContain('intent_not_accepted')
  expect(text[5]).toContain('NA330')
  expect(text[6]).toMatch(/not found {2}\d\d secrets/)
  const pids = ['registry', 'relay', 'recorder'].map((name) => pidOf(steps(running)[0], name))
  expect(pids.map(isAlive)).toEqual([false, false, false])
  expect(readdirSync(folder)).toEqual([])
})

test('when its relay is lost it fails at once with exit code 1, says so, and cleans up', async () => {
  const running = demo('--json')
  await running.until(() => steps(running).length >= 3)
  process.kill(pidOf(steps(running)[0], 'relay'), 'SIGKILL')
  const { code } = await running.ended
  expect(code).toBe(1)
  expect(steps(running).at(-1)).toMatchObject({ ok: false, problem: 'relay ended by itself.' })
  expect(readdirSync(folder)).toEqual([])
})

test('interrupted, it ends with 130, and cleans up', async () => {
  const running = demo()
  await running.until(() => running.stdout.includes('3/8'))
  const pids = [...running.stdout.matchAll(/process (\d+)/g)].map(([, pid]) => Number(pid))
  expect(pids).toHaveLength(5)
  expect(pids.map(isAlive)).not.toContain(false)
  const { code } = await running.stop('SIGINT')
  expect(code).toBe(130)
  expect(pids.map(isAlive)).not.toContain(true)
  expect(readdirSync(folder)).toEqual([])
})

test('it tells people what to type next', async () => {
  const { code, stdout } = await demo().ended
  expect(code).toBe(0)
  for (const command of ['registry', 'relay', 'init', 'up', 'listen', 'search', 'send']) {
    expect(stdout).toMatch(new RegExp(`npx agentmesh (--home \\S+ )?${command}\\b`))
  }
})
