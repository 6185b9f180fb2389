/** What the owner is told (policy `notify_owner`, specification §7.3), and the last of it for `status`. */
import type { SchemaCheck } from '../messages/index.ts'
import { formatIntent, formatTimestamp, type Envelope, type RequestPayload } from '../wire/index.ts'
import type { Core } from './core.ts'
import type { ConversationMessage, DecisionRecord, Notice } from './types.ts'

const KEPT = 20

export class Notices {
  readonly #core: Core
  readonly #last: Notice[] = []

  constructor(core: Core) {
    this.#core = core
    core.events.on('notice', (notice) => {
      this.#last.push(notice)
      if (this.#last.length > KEPT) this.#last.shift()
    })
    core.events.on('knock', (decision) => this.#knock(decision))
    core.events.on('message', (message) => this.#message(message))
  }

  /** Newest last. */
  get last(): readonly Notice[] {
    return this.#last
  }

  #knock({ from, intent, accepted }: DecisionRecord): void {
    const { notify_owner: wanted, allowlist } = this.#core.policy.current()
    if (!wanted.on_knock_from_unknown || allowlist.includes(from)) return
    if (this.#core.store.tables.contacts.get(from)) return
    const about = intent === undefined ? '' : ` about ${formatIntent(intent)}`
    this.#tell('knock', `${from} knocked${about}: ${accepted ? 'let in' : 'turned away'}`)
  }

  #message({ direction, type, payload, session_id }: ConversationMessage): void {
    const { notify_owner: wanted } = this.#core.policy.current()
    if (type === 'error' && wanted.on_error) {
      const { code } = payload as { code: string }
      this.#tell(
        'error',
        `${direction === 'in' ? 'The peer answered' : 'We answered'} ${code} in session ${session_id}`,
      )
    }
    if (type !== 'request' || !wanted.on_high_value_transaction) return
    const { budget } = payload as RequestPayload
    // Only dollars can be held against a threshold in dollars; any other currency is told from the first unit on.
    const threshold = budget?.currency.toUpperCase() === 'USD' ? wanted.threshold_usd : 0
    if (budget && budget.max > threshold) {
      this.#tell('high_value', `A request over ${budget.max} ${budget.currency} in session ${session_id}`)
    }
  }

  #tell(about: string, text: string): void {
    this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about, text })
  }
}

/** A message that was taken although it does not fit its schema (config `schemas: warn`). */
export function tellMisfit(core: Core, { from, type }: Envelope, check: SchemaCheck): void {
  const [first] = check.problems
  const where = first === undefined ? '' : `: ${first.path} ${first.problem}`
  const text = `A ${type} of ${from} does not fit ${check.schema ?? 'its schema'}${where}`
  core.events.emit('notice', { at: formatTimestamp(core.now()), about: 'schema', text })
}
