/** What the relay counts: plain integers on the hot path, read when somebody asks (`/metrics`, `stats()`). */
import type { ErrorCode } from '@agentmesh/sdk/wire'

export class Counters {
  socketsOpened = 0
  socketsRefused = 0
  connects = 0
  connectsRefused = 0
  framesIn = 0
  bytesIn = 0
  bytesOut = 0
  writes = 0
  sends = 0
  delivered = 0
  stored = 0
  refused = 0
  received = 0
  /** Messages given to another relay; of these, taken back because it did not answer for them. */
  forwarded = 0
  forwardsReturned = 0
  /** Messages on NATS that are not in form. */
  clusterMessagesRefused = 0
  cut = 0
  /** How often an agent was not read from, because of its address's frames or because it did not read. */
  pauses = 0
  /** Memory for messages from agents whose end has not come. */
  unfinishedBytes = 0
  expired = 0
  turnCredentials = 0
  readonly refusedByCode = new Map<ErrorCode, number>()
  readonly cutByCode = new Map<ErrorCode, number>()

  countRefused(code: ErrorCode): void {
    this.refused += 1
    this.refusedByCode.set(code, (this.refusedByCode.get(code) ?? 0) + 1)
  }

  countCut(code: ErrorCode): void {
    this.cut += 1
    this.cutByCode.set(code, (this.cutByCode.get(code) ?? 0) + 1)
  }
}
