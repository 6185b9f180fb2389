/**
 * What holds for every answer of a server to strangers, whatever was asked:
 *
 *   - a status below 500, or 503 with a code that says which service is not there
 *   - a refusal is an ErrorBody with a code that the published list marks for strangers
 *   - no answer is longer than the operator's limit of a page allows, no refusal than a screen
 *   - no refusal holds words of the machine: a stack, a path, SQL
 */
import { ErrorBody, validate } from '@agentmesh/sdk/wire'

export const MAX_ANSWER_BYTES = 1024 * 1024
const MAX_REFUSAL_BYTES = 4 * 1024
const UNAVAILABLE = ['DNS_UNAVAILABLE', 'PROVIDER_UNAVAILABLE', 'REGISTRY_FULL']
const MACHINE_WORDS =
  /\n\s+at |\.(ts|js|mjs):\d+|node_modules|sqlite|postgres|kysely|constraint failed|syntax error at|violates|\b(insert into|delete from|select \S+ from)\b|\/(tmp|home|work|usr)\//i

export interface ServerAnswer {
  readonly status: number
  readonly contentType: string
  readonly text: string
}

/** Codes marked for strangers in the text of spec/errors.md. */
export function strangerCodes(markdown: string): Set<string> {
  const rows = markdown.matchAll(/^\| `([A-Z_0-9]+)`\s*\|.*\|\s*yes\s*\|$/gm)
  return new Set([...rows].map(([, code]) => code ?? ''))
}

/** What rule an answer breaks, if any. */
export function judgeAnswer(
  method: string,
  { status, contentType, text }: ServerAnswer,
  codes: ReadonlySet<string>,
): string | undefined {
  if (text.length > MAX_ANSWER_BYTES) return `an answer of ${text.length} bytes`
  if (status >= 500 && status !== 503) return `status ${status}: ${text.slice(0, 300)}`
  if (method === 'HEAD') return text === '' ? undefined : 'a body for HEAD'
  if (status < 400) return undefined
  if (text.length > MAX_REFUSAL_BYTES) return `a refusal of ${text.length} bytes`
  if (MACHINE_WORDS.test(text)) return `words of the machine: ${text.slice(0, 300)}`
  if (!contentType.startsWith('application/json')) return `a refusal as ${contentType}: ${text.slice(0, 300)}`
  let body: ErrorBody
  try {
    body = validate(ErrorBody, JSON.parse(text) as unknown, 'read a refusal')
  } catch {
    return `no ErrorBody: ${text.slice(0, 300)}`
  }
  if (!codes.has(body.code)) return `a code that is not for strangers: ${body.code}`
  if (status === 503 && !UNAVAILABLE.includes(body.code)) return `status 503 with ${body.code}`
  return undefined
}
