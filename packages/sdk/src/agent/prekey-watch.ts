/**
 * Notices when somebody drains one-time prekeys: fetches bundles at the registry and never knocks. Without one-time keys a
 * KNOCK rests on keys that live for a week (DESIGN §7.1), so the owner is told.
 *
 *     missing = keys that lie at the registry as far as we know - keys the registry says it has
 *
 * A key that expired is in neither number, one that came back with a KNOCK in neither; what grows is what was fetched for
 * nothing.
 */

/** So many more missing within `DRAIN_WINDOW_MS` are no longer peers that changed their mind. */
const DRAIN_KEYS = 50
const DRAIN_WINDOW_MS = 10 * 60_000

/** A number of each kind. */
export interface PrekeyNumbers {
  readonly oneTime: number
  readonly oneTimeKem: number
}

export interface Drain {
  /** Of the kind that lost more. */
  readonly taken: number
  readonly seconds: number
}

export class PrekeyWatch {
  #last: { missing: PrekeyNumbers; at: number } | undefined

  /**
   * Compares with the look before; the first one only remembers.
   *
   * @param held uploaded, in date, and used by no KNOCK that came
   * @param left what the registry has
   * @param now milliseconds since the epoch
   */
  look(held: PrekeyNumbers, left: PrekeyNumbers, now: number): Drain | undefined {
    const missing = {
      oneTime: held.oneTime - left.oneTime,
      oneTimeKem: held.oneTimeKem - left.oneTimeKem,
    }
    const last = this.#last
    this.#last = { missing, at: now }
    if (!last) return undefined
    const taken = Math.max(
      missing.oneTime - last.missing.oneTime,
      missing.oneTimeKem - last.missing.oneTimeKem,
    )
    const elapsed = Math.max(0, now - last.at)
    // A machine that slept sees the losses of hours at once.
    if (taken <= DRAIN_KEYS * Math.max(1, elapsed / DRAIN_WINDOW_MS)) return undefined
    return { taken, seconds: Math.round(elapsed / 1000) }
  }

  /** What is at the registry was replaced: the next look is a first one. */
  forget(): void {
    this.#last = undefined
  }
}
