/** Waiting times between attempts to connect. */
import type { RandomBytes } from '../crypto/signing.ts'

const FIRST_MS = 500
const LONGEST_MS = 60_000

/**
 * Milliseconds before attempt `failures + 1`: doubling from 500 ms to one minute, the upper half random, so that agents
 * which lost a relay together do not come back together.
 */
export function backoffMs(failures: number, random: RandomBytes): number {
  const whole = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures, 10))
  const [byte = 0, next = 0] = random(2)
  return whole / 2 + (whole / 2) * ((byte * 256 + next) / 65_536)
}

/** Runs something later; returns what cancels it. */
export type Delay = (milliseconds: number, run: () => void) => () => void

export const systemDelay: Delay = (milliseconds, run) => {
  const timer = setTimeout(run, milliseconds)
  return () => clearTimeout(timer)
}
