/**
 * `policy show|set|edit|test`. With a daemon the change goes through it, and so into its audit log; without one the file is
 * changed, which the daemon reads when it starts.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import {
  AgentMeshError,
  childEnvironment,
  defaultPolicy,
  evaluateKnock,
  formatIntent,
  newPrecheckState,
  parseAmid,
  parsePolicy,
  POLICY_FILE,
  precheckKnock,
  STARTING_REPUTATION,
  TIERS,
  utf8Bytes,
  utf8Text,
  type Decision,
  type Policy,
  type TierName,
} from '@agentmesh/sdk'
import { Home } from '@agentmesh/sdk/identity'
import { EXIT, UsageError } from '../exit-codes.ts'
import { color, prettyJson, show, type Context } from '../output.ts'
import { intentFrom } from './send.ts'
import { clientOf, homePath, unlessDown } from './shared.ts'
import { describeTrace } from './why.ts'

/** What `policy edit` works on; stays after a mistake, so that no edit is lost. */
const DRAFT_FILE = 'policy.draft.json'

/** The policy in force: the daemon's, or the file's. @throws POLICY_INVALID, HOME_EMPTY */
async function currentPolicy(context: Context): Promise<Policy> {
  return (await unlessDown(clientOf(context).policy())) ?? filePolicy(context)
}

function filePolicy(context: Context): Policy {
  const bytes = Home.open(homePath(context)).readFile(POLICY_FILE)
  return bytes === undefined ? defaultPolicy() : parsePolicy(utf8Text(bytes))
}

/** @throws POLICY_INVALID; then nothing is changed */
export async function changePolicy(context: Context, change: (policy: Policy) => Policy): Promise<Policy> {
  const next = change(await currentPolicy(context))
  const set = await unlessDown(clientOf(context).setPolicy(next))
  if (set !== undefined) return set
  const text = `${JSON.stringify(next, null, 2)}\n`
  const checked = parsePolicy(text)
  Home.open(homePath(context)).writeFile(POLICY_FILE, utf8Bytes(text))
  return checked
}

export async function policyShow(context: Context): Promise<void> {
  show(context, await currentPolicy(context), (policy) => prettyJson(policy))
}

export async function policySet(context: Context, field: string, value: string): Promise<void> {
  const policy = await changePolicy(context, (before) => withField(before, field, value))
  show(context, policy, (after) => prettyJson({ [field]: fieldOf(after, field) }))
}

/** @throws UsageError for a field that no policy has; its value is judged by the policy's own schema */
function withField(policy: Policy, field: string, text: string): Policy {
  const next = structuredClone(policy) as unknown as Record<string, unknown>
  const path = field.split('.')
  const last = path.pop() ?? ''
  let holder = next
  for (const name of path) holder = objectAt(holder, name, field)
  if (!Object.hasOwn(holder, last)) throw new UsageError(`A policy has no field ${field}`)
  holder[last] = valueFrom(text, Array.isArray(holder[last]))
  return next as unknown as Policy
}

function fieldOf(policy: Policy, field: string): unknown {
  let value: unknown = policy
  for (const name of field.split('.')) value = (value as Record<string, unknown>)[name]
  return value
}

function objectAt(holder: Record<string, unknown>, name: string, field: string): Record<string, unknown> {
  const inner = Object.hasOwn(holder, name) ? holder[name] : undefined
  if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) {
    throw new UsageError(`A policy has no field ${field}`)
  }
  return inner as Record<string, unknown>
}

/** JSON where it is JSON; else words, for a list with commas between them. */
function valueFrom(text: string, list: boolean): unknown {
  const value = jsonOr(text)
  if (!list || Array.isArray(value)) return value
  return text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
    .map(jsonOr)
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

export async function policyEdit(context: Context): Promise<void> {
  const editor = process.env['VISUAL'] ?? process.env['EDITOR'] ?? 'vi'
  const home = Home.open(homePath(context))
  if (!home.has(DRAFT_FILE)) {
    const before = home.readFile(POLICY_FILE) ?? utf8Bytes(`${JSON.stringify(defaultPolicy(), null, 2)}\n`)
    home.writeFile(DRAFT_FILE, before)
  }
  const draft = home.file(DRAFT_FILE)
  // The editor is the owner's command line and may have arguments; the draft's name follows as one.
  const ended = spawnSync(`${editor} "$DRAFT"`, {
    shell: true,
    stdio: ['inherit', process.stderr, 'inherit'],
    env: { ...childEnvironment(process.env), DRAFT: draft },
  })
  if (ended.status !== 0) throw new UsageError(`The editor (${editor}) failed; the policy is as it was`)
  let policy: Policy
  try {
    policy = parsePolicy(readFileSync(draft, 'utf8'))
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    const message = `${why}. The old policy stays in force; \`agentmesh policy edit\` goes on with your draft`
    throw new AgentMeshError('POLICY_INVALID', message, { operation: 'edit policy', cause })
  }
  const after = await changePolicy(context, () => policy)
  rmSync(draft)
  show(context, after, () => 'The new policy is in force.')
}

interface PolicyTestResult extends Decision {
  readonly from: string
  readonly intent: string
  readonly as: TierName
}

export interface PolicyTestOptions {
  from: string
  /** The tier the sender would prove; anonymous when left out. */
  as?: TierName
  /** 0 to 1; where an agent of that tier starts when left out. */
  reputation?: number
}

export async function policyTest(
  context: Context,
  intentText: string,
  options: PolicyTestOptions,
): Promise<void> {
  const { as = 'anonymous' } = options
  const tier = TIERS[as].number
  const standing = { tier, reputation: options.reputation ?? STARTING_REPUTATION[tier] }
  const from = parseAmid(options.from)
  const intent = intentFrom(intentText)
  const policy = await currentPolicy(context)
  const running = await unlessDown(clientOf(context).status())
  const now = Date.now()
  const decision = evaluateKnock(
    {
      from,
      knock: { from: { tier, reputation_score: standing.reputation }, intent },
      expiresAt: now,
      standing,
    } as Parameters<typeof evaluateKnock>[0],
    policy,
    {
      now,
      precheck: precheckKnock({ from, isKnown: false }, policy, newPrecheckState(), now),
      activeSessions: running?.sessions.open ?? 0,
      paused: running !== undefined && running.breaker !== 'running',
      presence: running?.presence ?? 'online',
      arrivedOffline: false,
    },
  )
  const result: PolicyTestResult = { from, intent: formatIntent(intent), as, ...decision }
  show(context, result, () => {
    const verdict = result.accepted
      ? color.green('would be let in')
      : color.red(`would be refused: ${result.reason ?? ''}`)
    const who = as === 'anonymous' ? from : `${from}, were it ${as},`
    return [`A KNOCK of ${who} about ${result.intent} ${verdict}`, ...describeTrace(result.trace)].join('\n')
  })
  if (!result.accepted) process.exitCode = EXIT.rejected
}
