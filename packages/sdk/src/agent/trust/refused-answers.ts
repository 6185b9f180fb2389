/**
 * What the owner learns of a registry whose answers do not hold: a forged record, keys of somebody else, or older ones than were
 * seen before. Nothing of it was used; but a registry that does so is out of order, or has been taken over.
 */
import type { EventEmitter } from 'node:events'
import type { AuditLog } from '../../observability/index.ts'
import { RateLimiter } from '../../session/index.ts'
import { formatTimestamp } from '../../wire/index.ts'
import type { AgentEvents } from '../core.ts'
import type { AnswerRefused } from './registries.ts'

/** Lines and notices a minute about one registry: it decides how often it is asked in vain. */
const TOLD_PER_MINUTE = 5

interface Owner {
  readonly audit: Pick<AuditLog, 'append'>
  readonly events: EventEmitter<AgentEvents>
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export function tellRefusals({ audit, events, now }: Owner): AnswerRefused {
  const told = new RateLimiter()
  return (registry, { code, message, operation }) => {
    if (!told.take(registry, TOLD_PER_MINUTE, now()).allowed) return
    const at = formatTimestamp(now())
    const did = operation === undefined ? {} : { operation }
    audit.append({ event: 'registry_refused', ts: at, registry, code, ...did, detail: message })
    const text = `${registry} gave an answer that does not hold, and it was not used: ${message}`
    events.emit('notice', { at, about: 'registry', text })
  }
}
