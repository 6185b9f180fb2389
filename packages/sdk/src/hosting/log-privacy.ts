/**
 * What a server's log may say of clients: enough to answer one who asks, too little to follow all who do not.
 *
 *     agents      the first six characters of their AMID
 *     addresses   their network, 203.0.113.0/24 or 2001:db8:1::/48
 *     errors      type, code, message and stack; from the message everything that looks like an address, an AMID, a password in
 *                 a URL, a key or a token is cut
 *
 * Payloads, tokens and signatures are in no line that is written here. What drivers put into their errors is why messages are cut.
 */
import { isIP } from 'node:net'
import { addressNetwork } from './client-address.ts'

const AMID_SHOWN = 6
const ELLIPSIS = '…'
const MAX_MESSAGE = 1_000
const MAX_CAUSES = 4

/** For the field `agent` of a line. */
export function shortAmid(amid: string): string {
  return amid.slice(0, AMID_SHOWN) + ELLIPSIS
}

/** Text of somebody else's making, fit for the log. */
export function scrub(text: string): string {
  return text
    .slice(0, MAX_MESSAGE)
    .replaceAll(/:\/\/[^\s/@]+@/g, '://****@')
    .replaceAll(/(?<![\w:])[\da-f]{0,4}(?::[\da-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![\w:])/gi, networkOf)
    .replaceAll(/(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]|\/\d)/g, networkOf)
    .replaceAll(/[A-Za-z0-9+/_=-]{20,}/g, (run) =>
      isSecretLike(run) ? run.slice(0, AMID_SHOWN) + ELLIPSIS : run,
    )
}

function networkOf(text: string): string {
  return isIP(text) === 0 ? text : addressNetwork(text)
}

/** Keys, tokens, AMIDs, base64 and hex mix digits and letters without a pause; words, paths and names of tables do not. */
function isSecretLike(run: string): boolean {
  return run.split(/[/_-]/).some((part) => part.length >= 16 && /\d/.test(part) && /[A-Za-z]/.test(part))
}

/** An error as a log line has it: nothing but these fields, whatever a driver hung on it. */
export function loggedError(error: unknown): object {
  return describe(error, 0)
}

function describe(error: unknown, depth: number): object {
  if (!(error instanceof Error)) return { message: scrub(String(error)) }
  const { code } = error as { code?: unknown }
  return {
    type: error.name,
    ...(typeof code === 'string' && /^[\w-]{1,64}$/.test(code) ? { code } : {}),
    message: scrub(error.message),
    stack: framesOf(error),
    ...(error.cause === undefined || depth === MAX_CAUSES ? {} : { cause: describe(error.cause, depth + 1) }),
  }
}

/** Where it happened, without the message, which the stack begins with. */
function framesOf({ stack = '' }: Error): string[] {
  return stack
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^at .*\d\)?$/.test(line))
}

export const LOG_LEVELS = ['silent', 'error', 'warn', 'info', 'debug'] as const

/** For pino: JSON lines with time and level as words. */
export function logOptions(server: string, level: (typeof LOG_LEVELS)[number]) {
  return {
    level,
    base: { server },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: loggedError },
  }
}
