/** What the files of the surface share: examples before the usage, argument readers, the context of a command. */
import { InvalidArgumentError, type Command } from 'commander'
import type { Context } from '../output.ts'

/** `--help` begins with what to type. */
export function withExamples(command: Command, examples: readonly string[]): Command {
  const lines = examples.map((example) => `  ${example}`)
  return command.addHelpText('before', `Examples:\n${lines.join('\n')}\n`)
}

export function contextOf(command: Command): Context {
  const { home, json } = command.optsWithGlobals<{ home?: string; json?: boolean }>()
  return { home, json: json === true }
}

/** Seconds, more than none; a fraction is fine. */
export function seconds(text: string): number {
  const value = Number(text)
  if (!/^\d{1,9}(\.\d{1,3})?$/.test(text) || value <= 0) {
    throw new InvalidArgumentError('It is a number of seconds above 0.')
  }
  return value
}

export function count(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('It is a whole number from 1.')
  return Number(text)
}

export function rating(text: string): number {
  if (!/^(0(\.\d{1,6})?|1(\.0{1,6})?)$/.test(text))
    throw new InvalidArgumentError('It is a number from 0 to 1.')
  return Number(text)
}

/** For an option that may be given several times. */
export function collect(text: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), text]
}
