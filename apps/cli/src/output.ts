/**
 * Everything the command writes. Values go to stdout: for people, or with `--json` as one JSON value (one a line when it
 * streams). Progress, notes and errors go to stderr. Text that came from a peer is escaped before a terminal sees it
 * (DESIGN §4); in JSON the same characters become \u escapes, so a program reads exactly what was sent.
 */
import { escapeText } from '@agentmesh/sdk/wire'
import pc from 'picocolors'

/** What every command is told: which agent, and for whom the output is. */
export interface Context {
  /** `--home`; undefined leaves it to AGENTMESH_HOME. */
  readonly home: string | undefined
  readonly json: boolean
}

function colorsFor(stream: NodeJS.WriteStream) {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env
  // Not a terminal is undefined here, which the library would take for its own guess.
  const wanted = stream.isTTY ? TERM !== 'dumb' : false
  return pc.createColors(!NO_COLOR && (FORCE_COLOR ? FORCE_COLOR !== '0' : wanted))
}
export const color = colorsFor(process.stdout)
export const errorColor = colorsFor(process.stderr)

/** One line of JSON that no terminal stumbles over. */
export function jsonLine(value: unknown): string {
  const text = JSON.stringify(value)
  if (escapeText(text) === text) return text
  // One code point at a time, so that a pair of surrogates stays one character.
  return text.replaceAll(/./gsu, (character) =>
    escapeText(character) === character ? character : unicodeEscapes(character),
  )
}

function unicodeEscapes(character: string): string {
  return Array.from({ length: character.length }, (_, index) => {
    const unit = character.charCodeAt(index).toString(16).padStart(4, '0')
    return `\\u${unit}`
  }).join('')
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Prints a command's one result: the value with `--json`, else what `human` makes of it. */
export function show<T>(context: Context, value: T, human: (value: T) => string): void {
  print(context.json ? jsonLine(value) : human(value))
}

/** A JSON value over several lines, for people. */
export function prettyJson(value: unknown, indent = ''): string {
  return JSON.stringify(value, null, 2)
    .split('\n')
    .map((line) => indent + escapeText(line))
    .join('\n')
}

/** Names and values in two columns; text in the values is escaped. */
export function fields(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${color.dim(name.padEnd(width))}  ${escapeText(value)}`).join('\n')
}

/** Rows under a head, columns as wide as their widest cell; cells are escaped. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(escapeText))
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] ?? '').length)),
  )
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return [color.dim(line(head)), ...cells.map(line)].join('\n')
}
