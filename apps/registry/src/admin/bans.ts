/** Whom the operator does not serve: a banned AMID cannot register, verify or rate, and stands in no answer. */
import { AgentMeshError, type Amid } from '@agentmesh/sdk/wire'
import type { Context } from '../context.ts'

export type BanScope = 'agent' | 'human'

/** What the two below make, and nothing else. */
export const BAN_SUBJECT = '^(agent:[1-9A-HJ-NP-Za-km-z]{1,64}|human:[A-Za-z0-9+/=]{1,64})$'

export function agentSubject(amid: Amid): string {
  return `agent:${amid}`
}

export function humanSubject(human: string): string {
  return `human:${human}`
}

/** Under what an agent, and the person behind it, may be banned. */
export function banSubjects(amid: Amid, human: string | undefined): string[] {
  return [agentSubject(amid), ...(human === undefined ? [] : [humanSubject(human)])]
}

/** @throws BANNED */
export async function refuseBanned(context: Pick<Context, 'store'>, amid: Amid): Promise<void> {
  if (await context.store.admin.isBanned([agentSubject(amid)])) throw new AgentMeshError('BANNED')
}
