/**
 * Measuring on one core: each figure is the median of several short runs, after a warm-up, in calls a second of processor
 * time, so that other processes on the machine take no part. A path stands beside its bound, the bare library calls
 * that it cannot do without, measured in the same run.
 */
import os from 'node:os'

const RUNS = 15
const RUN_MILLISECONDS = 200

/** Milliseconds since the epoch with fractions, the same in every process. */
export function clock() {
  return performance.timeOrigin + performance.now()
}

/**
 * The value below which a share of all values lies.
 * @param {readonly number[]} values
 * @param {number} share 0 to 1
 */
export function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

/** @param {readonly number[]} values */
export function median(values) {
  return quantile(values, 0.5)
}

/**
 * Calls a second of processor time of a synchronous function, in one run.
 * @param {() => void} call
 * @param {number} milliseconds
 */
function rateOnce(call, milliseconds) {
  const end = performance.now() + milliseconds
  const before = process.cpuUsage()
  let calls = 0
  while (performance.now() < end) {
    call()
    calls += 1
  }
  const { user, system } = process.cpuUsage(before)
  return (calls * 1_000_000) / (user + system)
}

/**
 * The path's and its bound's calls a second. Their runs alternate, so that a busy moment of the machine strikes both.
 * @param {() => void} path
 * @param {() => void} bound
 */
export function compare(path, bound) {
  rateOnce(path, 2 * RUN_MILLISECONDS)
  rateOnce(bound, 2 * RUN_MILLISECONDS)
  /** @type {number[]} */
  const paths = []
  /** @type {number[]} */
  const bounds = []
  for (let run = 0; run < RUNS; run++) {
    paths.push(rateOnce(path, RUN_MILLISECONDS))
    bounds.push(rateOnce(bound, RUN_MILLISECONDS))
  }
  return { path: median(paths), bound: median(bounds) }
}

export function machine() {
  const [cpu] = os.cpus()
  return `${cpu?.model ?? 'unknown processor'}, ${os.cpus().length} cores, Node ${process.versions.node}, ${os.platform()}`
}

export function printMachine() {
  console.log(machine())
  console.log(`median of ${RUNS} runs of ${RUN_MILLISECONDS} ms, calls a second of one core`)
}

/**
 * @param {string} name
 * @param {{ path: number, bound: number }} rates calls a second
 */
export function printComparison(name, { path, bound }) {
  const figure = (/** @type {number} */ value) => Math.round(value).toString().padStart(8)
  const ratio = Math.round((100 * path) / bound)
  console.log(`${name.padEnd(52)}${figure(path)}/s   bound${figure(bound)}/s   ${ratio} %`)
}
