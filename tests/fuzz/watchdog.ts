/**
 * Ends the process of a target that does not come back from an input: a reader that hangs holds up everything, timers
 * included, so that only another thread can say so. Time is the processor's, of the process, which works for nothing else.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

/** More than tools/fuzz.mjs allows: what else a test process does counts here too. */
const MAX_CPU_MILLISECONDS = 5_000

const PROGRAM = `
  const { workerData: { name, shared, most } } = require('node:worker_threads')
  const { writeSync } = require('node:fs')
  const position = new Float64Array(shared)
  let seen = -1
  let since = process.cpuUsage()
  setInterval(() => {
    if (position[0] !== seen) {
      seen = position[0]
      since = process.cpuUsage()
    }
    const { user, system } = process.cpuUsage(since)
    if (seen < 0 || (user + system) / 1000 < most) return
    writeSync(2, name + ' does not come back from input ' + seen + '\\n')
    process.kill(process.pid, 'SIGKILL')
  }, 250)
`

export interface Watch {
  /** Called before each input. */
  readonly onInput: (index: number) => void
  readonly leave: () => Promise<unknown>
}

/** Resolves when the other thread watches. @param most milliseconds of the processor for one input */
export async function watch(name: string, most = MAX_CPU_MILLISECONDS): Promise<Watch> {
  const shared = new SharedArrayBuffer(8)
  const position = new Float64Array(shared).fill(-1)
  const worker = new Worker(PROGRAM, {
    eval: true,
    execArgv: [],
    workerData: { name, shared, most },
  })
  // It does not begin by itself once this thread hangs.
  await once(worker, 'online')
  worker.unref()
  return {
    onInput(index) {
      position[0] = index
    },
    leave: () => worker.terminate(),
  }
}
