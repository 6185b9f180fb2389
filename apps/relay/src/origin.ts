/** One address (IPv6: one /64) that has connections here, and what they hold together: no more than a share of everything. */
export class Origin {
  /** What limits by address count under. */
  readonly address: string
  /** Open TCP connections, agents included. */
  sockets = 0
  /** Of these, on which no CONNECT was accepted. */
  strangers = 0
  /** Payload bytes delivered to its agents and not acknowledged. */
  windowBytes = 0
  /** Memory for messages from it whose end has not come. */
  unfinishedBytes = 0
  /** Whom its agents have written to, as far as is remembered. */
  readonly receivers = new Set<string>()

  constructor(address: string) {
    this.address = address
  }
}
