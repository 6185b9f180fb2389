/**
 * Throws hostile inputs at every reader of outside bytes (tests/fuzz): a million at each unless told otherwise. Every target
 * runs in a thread of its own, watched from outside, so that a reader that hangs is seen too. Findings are written to
 * fuzz-findings/; any finding makes the exit status 1.
 *
 * Usage, in the root of the repository: npm run fuzz -- [registry] [--target name,name] [--inputs n] [--seed n] [--at n] [--list]
 *
 *   registry  sends requests to every endpoint of a running registry instead (tests/fuzz/http)
 *   --target  those of these names, or whose names begin so
 *   --at      one input alone, by its number in a run with the same seed
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { register } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const FOLDER = 'fuzz-findings'
const BAR = 24
const TICK_MILLISECONDS = 250
const MAX_WAIT_MILLISECONDS = 120_000

// Threads do not share hooks in every version of Node, so each registers its own.
register('./source-hooks.mjs', import.meta.url)
const { TARGETS } = await import('../tests/fuzz/targets/index.ts')
const { runTarget, MAX_INPUT_MILLISECONDS } = await import('../tests/fuzz/run.ts')
const { InputSource } = await import('../tests/fuzz/target.ts')

if (isMainThread) await main()
else await work()

/** One target; `shared` tells the main thread which input is being read. */
async function work() {
  const { name, seed, inputs, from, shared } = workerData
  const target = await TARGETS[name]()
  const position = new Float64Array(shared)
  const onInput = (index) => (position[0] = index - from + 1)
  const report = await runTarget(target, { seed, inputs, from, onInput })
  await target.close?.()
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
  parentPort.postMessage(report)
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      target: { type: 'string', default: '' },
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: String(Date.now() % 0x1_0000_0000) },
      at: { type: 'string' },
      list: { type: 'boolean', default: false },
    },
  })
  if (positionals.includes('registry')) return fuzzRegistry(values)
  const names = namesFor(values.target.split(','))
  if (names.length === 0) throw new Error(`no target is named ${values.target}; --list shows them`)
  if (values.list) return names.forEach((name) => console.log(name))

  const seed = wholeNumber('seed', values.seed)
  const inputs = values.at === undefined ? wholeNumber('inputs', values.inputs) : 1
  const from = values.at === undefined ? 0 : wholeNumber('at', values.at)
  console.log(`seed ${seed}, ${inputs} inputs a target, ${names.length} targets\n`)
  console.log(row(['target', 'inputs/s', 'seconds', 'taken', 'codes', 'slowest', 'memory', 'findings']))
  let total = 0
  for (const name of names) {
    const report = await watched({ name, seed, inputs, from })
    console.log(row(columns(name, report)))
    for (const finding of report.findings) show(name, seed, finding)
    total += report.findings.length
  }
  console.log(`\n${total === 0 ? 'no findings' : `${total} findings, see ${FOLDER}/`}; seed ${seed}`)
  if (total > 0) process.exitCode = 1
}

/** @param values the options as given */
async function fuzzRegistry(values) {
  const seed = wholeNumber('seed', values.seed)
  const requests = values.at === undefined ? wholeNumber('inputs', values.inputs) : 1
  const from = values.at === undefined ? 0 : wholeNumber('at', values.at)
  const { fuzzedRegistry } = await import('../tests/fuzz/http/registry.ts')
  const { runHttp } = await import('../tests/fuzz/http/run-http.ts')
  const registry = await fuzzedRegistry(seed)
  try {
    const begin = performance.now()
    const { statuses, codes, findings } = await runHttp({ ...registry, requests, from })
    for (const [operation, counts] of Object.entries(statuses)) {
      const line = Object.entries(counts).map(([status, count]) => `${status}: ${count}`)
      console.log(`${operation.padEnd(52)}${line.join('  ')}`)
    }
    console.log(
      `\n${Object.keys(codes).length} codes, ${Math.round(requests / ((performance.now() - begin) / 1000))} requests/s`,
    )
    for (const { index, operation, detail } of findings) {
      console.log(`  request ${index}, ${operation}: ${detail}`)
      console.log(`    again: npm run fuzz -- registry --seed ${seed} --at ${index}`)
    }
    console.log(`${findings.length} findings; seed ${seed}`)
    if (findings.length > 0) process.exitCode = 1
  } finally {
    await registry.close()
  }
}

/** In the order of the table: the target of that name, else all whose name begins so. */
function namesFor(wanted) {
  const isWanted = (name) =>
    wanted.some((text) => (Object.hasOwn(TARGETS, text) ? name === text : name.startsWith(text)))
  return Object.keys(TARGETS).filter(isWanted)
}

function wholeNumber(name, text) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number`)
  return value
}

/** Runs a target in a thread; an input that stays for longer than it may ends the thread and is the finding. */
async function watched(run) {
  const shared = new SharedArrayBuffer(8)
  const position = new Float64Array(shared)
  const worker = new Worker(new URL(import.meta.url), { workerData: { ...run, shared } })
  const begin = performance.now()
  let last = 0
  let since = begin
  let cpu = process.cpuUsage()
  return new Promise((resolve, reject) => {
    const timer = setInterval(() => {
      const now = performance.now()
      const seen = position[0]
      if (seen !== last) [last, since, cpu] = [seen, now, process.cpuUsage()]
      progress(run, seen, now - begin)
      // Nothing is read yet while the target is made, and nothing any more while memory is measured.
      if (seen === 0 || seen === run.inputs) return
      const { user, system } = process.cpuUsage(cpu)
      // The thread is all that works here. One that waits for ever uses no processor at all.
      if ((user + system) / 1000 < 2 * MAX_INPUT_MILLISECONDS && now - since < MAX_WAIT_MILLISECONDS) return
      clearInterval(timer)
      void hung(run, run.from + seen - 1, worker).then(resolve, reject)
    }, TICK_MILLISECONDS)
    worker.once('message', (report) => {
      clearInterval(timer)
      progress(run)
      resolve(report)
    })
    worker.once('error', (error) => {
      clearInterval(timer)
      reject(new Error(`${run.name} ended its thread`, { cause: error }))
    })
  })
}

async function hung(run, index, worker) {
  await worker.terminate()
  const target = await TARGETS[run.name]()
  const input = new InputSource(target, run.seed).at(index)
  await target.close?.()
  const finding = { index, input, rule: 'hang', detail: 'the reader did not come back' }
  return {
    inputs: index - run.from,
    accepted: 0,
    refused: {},
    slowest: [],
    milliseconds: 0,
    findings: [finding],
  }
}

function progress(run, seen, milliseconds) {
  if (!process.stderr.isTTY) return
  if (run.inputs < 2 || seen === undefined) return void process.stderr.write('\r\u001b[K')
  const share = seen / run.inputs
  const bar = '#'.repeat(Math.round(share * BAR)).padEnd(BAR, '.')
  const rate = Math.round(seen / (milliseconds / 1000))
  process.stderr.write(`\r\u001b[K${run.name} [${bar}] ${Math.floor(share * 100)} % ${rate}/s`)
}

function columns(name, report) {
  const { inputs, accepted, refused, slowest, growth, milliseconds, findings } = report
  const [slow] = slowest
  return [
    name,
    milliseconds === 0 ? '-' : Math.round(inputs / (milliseconds / 1000)),
    (milliseconds / 1000).toFixed(1),
    `${((accepted / inputs) * 100).toFixed(1)} %`,
    Object.keys(refused).length,
    slow === undefined ? '-' : `${slow.milliseconds.toFixed(1)} ms / ${slow.bytes} B`,
    growth === undefined ? '-' : `${(growth / 1024).toFixed(0)} KiB`,
    findings.length,
  ]
}

function row(cells) {
  const widths = [26, 10, 9, 9, 7, 24, 12, 10]
  return cells
    .map((cell, index) =>
      index === 0 ? String(cell).padEnd(widths[0]) : String(cell).padStart(widths[index]),
    )
    .join('')
}

function show(name, seed, { index, rule, detail, input }) {
  mkdirSync(FOLDER, { recursive: true })
  const file = join(FOLDER, `${name}-${seed}-${index}.bin`)
  writeFileSync(file, input)
  const base64 = Buffer.from(input).toString('base64')
  console.log(`  ${rule} at input ${index}: ${detail.split('\n').slice(0, 4).join('\n    ')}`)
  console.log(
    `    ${file}, ${input.length} bytes: ${base64.length > 400 ? `${base64.slice(0, 400)}...` : base64}`,
  )
  console.log(`    again: npm run fuzz -- --target ${name} --seed ${seed} --at ${index}`)
}
