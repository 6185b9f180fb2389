/** Whom the operator does not serve: a banned AMID cannot register, verify or rate, and stands in no answer. */
import { AgentMeshError, type Amid } from '@agentmesh/sdk/wire'
import type { Context } from '../context.ts'

export type BanScope = 'agent' | 'human'

export function agentSubject(amid: Amid): string {
  return `agent:${amid}`
}

export function humanSubject(human: string): string {
  return `human:${human}`
}

/** @param human keyed hash of the person, for who verifies. @throws BANNED */
export async function refuseBanned(
  context: Pick<Context, 'store'>,
  amid: Amid,
  human?: string,
): Promise<void> {
  const subjects = [agentSubject(amid), ...(human === undefined ? [] : [humanSubject(human)])]
  if (await context.store.admin.isBanned(subjects)) throw new AgentMeshError('BANNED')
}
