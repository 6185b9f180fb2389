/**
 * What the command's exit code says, one table for `--help`, docs/cli.md and scripts. Codes are stable. Every error code
 * of spec/errors.md belongs to one of them; what is in no list is a plain failure.
 */
import type { ErrorCode } from '@agentmesh/sdk'

export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  rejected: 4,
  timeout: 5,
  notRunning: 6,
  home: 7,
  peerError: 8,
  network: 9,
  stopped: 10,
  logRewritten: 11,
  logUnsigned: 12,
  logSplit: 13,
  logStale: 14,
  auditGap: 15,
  interrupted: 130,
} as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

export const EXIT_MEANINGS: Readonly<Record<ExitCode, string>> = {
  0: 'ok',
  1: 'failure: anything not listed below; a check that did not pass (doctor, audit verify, demo)',
  2: 'usage: an argument or input is not what it must be',
  3: 'not found: no such agent, session, message or decision',
  4: 'rejected: the peer, the policy, the registry or an identity provider said no',
  5: 'timeout: no answer in the time given; the message itself goes on',
  6: 'no daemon runs for this home',
  7: 'home: keys, configuration or policy are missing, damaged, unsafe or in use',
  8: 'the peer answered with an error',
  9: 'network: registry or relay cannot be reached, or does not answer truthfully',
  10: 'the owner stopped this agent',
  11: 'registry audit: the log was rewritten; entries were changed, dropped or put in between',
  12: 'registry audit: the tree head is not signed by the registry, or is that of another one',
  13: 'registry audit: a split view; the registry signed two logs of one size',
  14: 'registry audit: the tree head is old, or from the future',
  15: 'audit verify: the log has a gap, or was changed, and the owner has not acknowledged it',
  130: 'interrupted',
}

const LISTS: readonly (readonly [ExitCode, readonly (ErrorCode | 'USAGE')[]])[] = [
  [
    EXIT.usage,
    [
      'USAGE',
      'MALFORMED',
      'TOO_LARGE',
      'JSON_SYNTAX',
      'JSON_DUPLICATE_KEY',
      'JSON_FORBIDDEN_KEY',
      'JSON_DEPTH',
      'JSON_NUMBER',
      'JSON_SURROGATE',
      'UNKNOWN_TYPE',
      'INVALID_AMID',
      'INVALID_ID',
      'INVALID_TIMESTAMP',
    ],
  ],
  [
    EXIT.notFound,
    [
      'AGENT_NOT_FOUND',
      'SESSION_UNKNOWN',
      'MESSAGE_UNKNOWN',
      'NOT_FOUND',
      'PROVIDER_UNKNOWN',
      'SUCCESSION_UNKNOWN',
    ],
  ],
  [
    EXIT.rejected,
    [
      'KNOCK_REJECTED',
      'VERIFICATION_REFUSED',
      'VERIFIED_BY_ANOTHER',
      'AGENTS_OF_HUMAN_LIMIT',
      'BANNED',
      'SUCCESSION_REFUSED',
      'AMID_SUCCEEDED',
      'ADMIN_UNAUTHORIZED',
    ],
  ],
  [EXIT.timeout, ['WAIT_TIMEOUT', 'KNOCK_UNANSWERED', 'MESSAGE_EXPIRED']],
  [EXIT.notRunning, ['DAEMON_NOT_RUNNING']],
  [
    EXIT.home,
    [
      'HOME_EMPTY',
      'HOME_EXISTS',
      'HOME_UNSAFE',
      'HOME_FAILED',
      'HOME_DAMAGED',
      'HOME_LOCKED',
      'PASSPHRASE_REQUIRED',
      'PASSPHRASE_WRONG',
      'CONFIG_INVALID',
      'POLICY_INVALID',
      'STATE_DAMAGED',
      'STATE_WRONG_KEY',
      'STATE_VERSION',
      'STATE_WRITE_FAILED',
    ],
  ],
  [
    EXIT.network,
    [
      'REGISTRY_UNREACHABLE',
      'REGISTRY_ANSWER_INVALID',
      'PROVIDER_UNAVAILABLE',
      'WRONG_AUTHORITY',
      'RELAY_DISCONNECTED',
      'RELAY_ID_MISMATCH',
    ],
  ],
  [EXIT.stopped, ['AGENT_STOPPED']],
]
const BY_CODE = new Map<string, ExitCode>(LISTS.flatMap(([exit, codes]) => codes.map((code) => [code, exit])))

export function exitCodeOf(code: string): ExitCode {
  return BY_CODE.get(code) ?? EXIT.failure
}

const HINTS: Readonly<Partial<Record<ErrorCode, string>>> = {
  DAEMON_NOT_RUNNING: 'Start it with `agentmesh up`.',
  HOME_EMPTY: 'Make an agent with `agentmesh init`.',
  HOME_EXISTS: 'Nothing was changed. Choose another folder with --home.',
  HOME_LOCKED: '`agentmesh status` shows the daemon that runs; `agentmesh down` ends it.',
  HOME_UNSAFE: '`agentmesh doctor` lists what is open to others.',
  PASSPHRASE_REQUIRED: 'Set AGENTMESH_PASSPHRASE, or use --passphrase-prompt.',
  AGENT_STOPPED: '`agentmesh resume` puts it back on the network.',
  NOT_REGISTERED: 'Register first: `agentmesh up`.',
  VERIFICATION_UNKNOWN: 'Nothing was changed. Begin again with `agentmesh verify-me`.',
  WRONG_AUTHORITY: 'The server knows itself by another address than config.json: ask its operator for it.',
  ADMIN_UNAUTHORIZED: 'Set AGENTMESH_REGISTRY_ADMIN_TOKEN to the token that the registry was started with.',
  REGISTRY_UNREACHABLE: '`agentmesh doctor` tells what is wrong.',
}

/** What to do about an error, where one thing helps. */
export function hintFor(code: string): string | undefined {
  return Object.hasOwn(HINTS, code) ? HINTS[code as ErrorCode] : undefined
}

/** A mistake in the command line; the SDK need not be loaded to say so. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly code = 'USAGE'
}
