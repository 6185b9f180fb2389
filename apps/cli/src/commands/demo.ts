/**
 * `agentmesh demo`: runs the demonstration in a temporary folder and removes everything afterwards, also on failure and on
 * Ctrl-C. Exit code 0 only when every step did what it says.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DemoFailure, Processes } from '../demo/processes.ts'
import { DemoScript } from '../demo/script.ts'
import { EXIT, type ExitCode } from '../exit-codes.ts'
import { color, jsonLine, note, print, type Context } from '../output.ts'

const NEXT = `
Type next, from this folder, each server in a terminal of its own:

  npx agentmesh registry
  npx agentmesh relay

  npx agentmesh --home /tmp/travel init --name "My travel agent" --capability travel/flights
  npx agentmesh --home /tmp/travel up
  npx agentmesh --home /tmp/travel listen --exec 'node examples/travel-agent/flights.mjs'

  npx agentmesh --home /tmp/me up
  npx agentmesh --home /tmp/me search travel/flights
  npx agentmesh --home /tmp/me send <AMID> --intent travel/flights --wait 30 \\
      --params '{"origin":"TLV","destination":"BER","date":"DATE"}'
`

export async function demo(context: Context): Promise<void> {
  const started = Date.now()
  const folder = mkdtempSync(join(tmpdir(), 'agentmesh-demo-'))
  const processes = new Processes()
  const stop = new AbortController()
  const interrupt = (): void => stop.abort()
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.once(signal, interrupt)
  try {
    const script = new DemoScript(processes, folder, started)
    const interrupted = new Promise<never>((_resolve, reject) => {
      stop.signal.addEventListener('abort', () => reject(new DemoFailure('Interrupted')))
    })
    process.exitCode = await Promise.race([play(context, script, processes.lost), interrupted])
  } catch (error) {
    if (!stop.signal.aborted) throw error
    note('Interrupted.')
    process.exitCode = EXIT.interrupted
  } finally {
    await processes.stopAll()
    rmSync(folder, { recursive: true, force: true })
    for (const signal of signals) process.off(signal, interrupt)
  }
  const seconds = Math.round((Date.now() - started) / 1000)
  if (process.exitCode !== EXIT.ok || context.json) return
  print(
    `${color.green(color.bold('It works.'))} Every step held, in ${seconds} s; all processes and folders are gone.`,
  )
  print(NEXT.replace('DATE', new Date(started + 21 * 86_400_000).toISOString().slice(0, 10)))
}

async function play(context: Context, { steps }: DemoScript, lost: Promise<never>): Promise<ExitCode> {
  for (const [index, step] of steps.entries()) {
    const { title } = step
    const lines: string[] = []
    if (!context.json) print(`\n${color.bold(`${index + 1}/${steps.length}  ${title}`)}`)
    const say = (line: string): void => {
      lines.push(line)
      if (!context.json) print(line.replaceAll(/^/gm, '     '))
    }
    try {
      await Promise.race([step.run(say), lost])
    } catch (error) {
      if (!(error instanceof DemoFailure)) throw error
      if (context.json) print(jsonLine({ step: index + 1, title, ok: false, lines, problem: error.message }))
      else note(`\n${color.red('The demonstration failed.')} ${error.message}`)
      return EXIT.failure
    }
    if (context.json) print(jsonLine({ step: index + 1, title, ok: true, lines }))
  }
  if (!context.json) print('')
  return EXIT.ok
}
