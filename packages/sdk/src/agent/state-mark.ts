/**
 * Notices a `state.db` that is gone, or an older copy of itself, before anything is sealed with keys it used already
 * (DESIGN §7).
 *
 *     state.mark    random, written anew at each start and every hour: after the commit that puts it into the row
 *     meta `mark`   { current, before }: what the file holds, or held when that commit was made
 *
 * A crash between the two leaves `before` in the file; whatever else it holds was written by a later state. An older copy
 * of the whole home has its own file, so that only the peer can tell (recovery.ts).
 */
import type { Home } from '../identity/index.ts'
import { isAgentMeshError, toHex, utf8Bytes, utf8Text } from '../wire/index.ts'
import { commit, type AgentStore, type Core } from './core.ts'

const FILE = 'state.mark'
const ROW = 'mark'
const RENEW_MS = 3_600_000

interface Mark {
  readonly current: string
  readonly before: string
}

/** Empty when there is no file, or none that we wrote. */
function fileMark(home: Home): string {
  try {
    return utf8Text(home.readFile(FILE) ?? new Uint8Array(0))
  } catch (error) {
    if (!isAgentMeshError(error, 'MALFORMED')) throw error
    return ''
  }
}

/** How a state relates to the one in use last: `lost` when there was one and this is new. @throws HOME_UNSAFE, HOME_FAILED */
export function compareState(home: Home, store: AgentStore): 'same' | 'older' | 'lost' {
  const mark = store.tables.meta.get(ROW) as Mark | undefined
  const found = fileMark(home)
  if (mark === undefined) return found === '' ? 'same' : 'lost'
  return found === mark.current || found === mark.before ? 'same' : 'older'
}

export class StateMark {
  readonly #core: Core
  #renewAt = 0

  constructor(core: Core) {
    this.#core = core
  }

  /** A mark of its own for what comes from here on. @throws STATE_*, HOME_FAILED */
  async renew(): Promise<void> {
    const { home, store, random, now } = this.#core
    this.#renewAt = now() + RENEW_MS
    const mark: Mark = { current: toHex(random(16)), before: fileMark(home) }
    await commit(this.#core, () => store.tables.meta.put(ROW, mark))
    home.writeFile(FILE, utf8Bytes(mark.current))
  }

  async maintain(): Promise<void> {
    if (this.#core.now() >= this.#renewAt) await this.renew()
  }
}
