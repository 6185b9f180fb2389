/**
 * Who stands behind an agent, as far as the registry knows: what makes several agents one voice.
 */
import { AgentMeshError, TIERS, type Amid, type TierNumber } from '@agentmesh/sdk/wire'
import type { Store } from '../store/store.ts'

export interface Standing {
  readonly tier: TierNumber
  /** Keyed hash of the person, as text; the same for all agents of one. */
  readonly human?: string
  /** Id of the organisation whose fleet the agent is in. */
  readonly organization?: string
}

export interface People {
  /** @throws AGENT_NOT_FOUND */
  standingOf(amid: Amid): Promise<Standing>
  /**
   * As it was at a time before `now`, as far as it is as that still: what came since is left out.
   *
   * @throws AGENT_NOT_FOUND
   */
  standingAt(amid: Amid, at: number, now: number): Promise<Standing>
  /** Also of an agent that is not registered any more. */
  humanOf(amid: Amid): Promise<string | undefined>
  agentsOfHuman(human: string): Promise<Amid[]>
}

/** As the certificate authority knows them. */
export function storedPeople(store: Store): People {
  return {
    async standingOf(amid) {
      const agent = await store.getAgent(amid)
      if (agent === undefined) throw new AgentMeshError('AGENT_NOT_FOUND')
      const human = await store.certificates.humanOf(amid)
      const { tier, organization } = agent
      return {
        tier,
        ...(human === undefined ? {} : { human }),
        ...(organization === null ? {} : { organization }),
      }
    },
    async standingAt(amid, at, now) {
      const agent = await store.getAgent(amid)
      if (agent === undefined) throw new AgentMeshError('AGENT_NOT_FOUND')
      const verified = await store.certificates.verifiedAgent(amid)
      const memberSince = (await store.certificates.memberSince(amid, now)) ?? 0
      const human = verified !== undefined && verified.verified_at <= at ? verified.human : undefined
      const organization = agent.organization !== null && memberSince <= at ? agent.organization : undefined
      const name =
        organization !== undefined ? 'organization' : human !== undefined ? 'verified' : 'anonymous'
      return {
        tier: TIERS[name].number,
        ...(human === undefined ? {} : { human }),
        ...(organization === undefined ? {} : { organization }),
      }
    },
    humanOf: (amid) => store.certificates.humanOf(amid),
    agentsOfHuman: (human) => store.admin.agentsOfHuman(human),
  }
}

/** One person, or one fleet: nobody of it rates another. */
export function isOneVoice(one: Side, other: Side): boolean {
  const { human } = one.standing
  if (human !== undefined && human === other.standing.human) return true
  return voiceOf(one.amid, one.standing) === voiceOf(other.amid, other.standing)
}

interface Side {
  readonly amid: Amid
  readonly standing: Standing
}

/** A fleet speaks with one voice, and so does a person; an anonymous agent speaks for itself. */
export function voiceOf(amid: Amid, { human, organization }: Standing): string {
  if (organization !== undefined) return `organization:${organization}`
  return human === undefined ? `agent:${amid}` : `human:${human}`
}
