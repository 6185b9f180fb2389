/** `agentmesh why`: the decision on a KNOCK in words, rule by rule; or what became of a message of ours. */
import type { AgentClient, DecisionRecord, ProgressEvent, RuleResult } from '@agentmesh/sdk'
import { AgentMeshError, escapeText, formatIntent, isAgentMeshError, isAmid } from '@agentmesh/sdk/wire'
import { color, show, type Context } from '../output.ts'
import { describeStage } from './progress.ts'
import { clientOf } from './shared.ts'

const MAX_DECISIONS = 20
const ENOUGH_MS = 250

export async function why(context: Context, id: string): Promise<void> {
  const client = clientOf(context)
  const all = await client.decisions(isAmid(id) ? id : undefined)
  const decisions = isAmid(id) ? all.slice(0, MAX_DECISIONS) : all.filter((decision) => decision.id === id)
  if (decisions.length > 0) {
    show(context, { decisions }, (found) => found.decisions.map(describeDecision).join('\n\n'))
    return
  }
  if (isAmid(id)) throw new AgentMeshError('NOT_FOUND', 'This agent has not knocked here')
  const progress = await progressSoFar(client, id)
  show(context, { id, progress }, () =>
    progress.map((event) => `${color.dim(event.at)} ${escapeText(describeStage(event))}`).join('\n'),
  )
}

/** A message's stages until it ends or nothing more is there to read. @throws NOT_FOUND */
async function progressSoFar(client: AgentClient, id: string): Promise<ProgressEvent[]> {
  const events: ProgressEvent[] = []
  const enough = AbortSignal.timeout(ENOUGH_MS)
  try {
    for await (const event of client.progress(id, enough)) events.push(event)
  } catch (error) {
    if (isAgentMeshError(error, 'MESSAGE_UNKNOWN') || isAgentMeshError(error, 'INVALID_ID')) {
      throw new AgentMeshError('NOT_FOUND', 'No decision and no message has this id', { cause: error })
    }
    if (!isAgentMeshError(error, 'WAIT_TIMEOUT')) throw error
  }
  return events
}

function describeDecision(decision: DecisionRecord): string {
  const verdict = decision.accepted ? color.green('let in') : color.red(`refused: ${decision.reason ?? ''}`)
  const about = decision.intent === undefined ? '' : ` about ${formatIntent(decision.intent)}`
  const head = `${escapeText(`${decision.at} ${decision.from} knocked${about}`)}: ${verdict}`
  return [head, color.dim(`decision ${decision.id}`), ...describeTrace(decision.trace)].join('\n')
}

/** One line a rule, in the order they were asked. */
export function describeTrace(trace: readonly RuleResult[]): string[] {
  return trace.map(({ rule, passed, inputs }) => {
    const facts = Object.entries(inputs)
      .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
      .join(', ')
    return `  ${passed ? color.green('passed') : color.red('FAILED')}  ${escapeText(`${rule.padEnd(14)} ${facts}`)}`
  })
}
