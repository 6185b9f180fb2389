/**
 * What stands in a row's columns in place of its key and its index values: keyed hashes, since many of those are AMIDs. A
 * copy of the file tells nobody without the storage key whom the agent knows, and a row that outlives the peer it is
 * about (a filter against replays) names nobody to those with it: there is a random part in each such key.
 *
 *     HMAC-SHA-256(subkey of the storage key, table 0x00 column 0x00 text), first 16 bytes, base64
 */
import { hkdfSha256, hmacSha256 } from '../../crypto/index.ts'
import { toBase64, utf8Bytes } from '../../wire/index.ts'
import { RecentValues } from './recent-values.ts'

const NAME_BYTES = 16
const NO_SALT = new Uint8Array(0)
/** Names kept of each column: most messages put rows of the same few sessions and peers. */
const RECENT_NAMES = 512

export type NameColumn = 'key' | 'a' | 'b'

export class RowNames {
  readonly #subkey: Uint8Array

  constructor(storageKey: Uint8Array) {
    this.#subkey = hkdfSha256(storageKey, NO_SALT, utf8Bytes('agentmesh/0.2 state names'), 32)
  }

  of(table: string, column: NameColumn, text: string): string {
    const message = utf8Bytes(`${table}\0${column}\0${text}`)
    return toBase64(hmacSha256(this.#subkey, message).subarray(0, NAME_BYTES))
  }

  /** The names of one column, which remembers those of late. */
  column(table: string, column: NameColumn): (text: string) => string {
    const recent = new RecentValues<string>(RECENT_NAMES)
    return (text) => {
      let name = recent.get(text)
      if (name === undefined) {
        name = this.of(table, column, text)
        recent.set(text, name)
      }
      return name
    }
  }
}
