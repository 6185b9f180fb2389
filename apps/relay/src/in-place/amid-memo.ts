/**
 * The AMIDs seen lately, in both spellings: base58 costs more than all else a message needs. Two tables of fixed size, in
 * which an AMID has one place and whoever came last is there.
 */
import { AMID_BYTES, amidFromBytes, amidToBytes, isAmid, type Amid } from '@agentmesh/sdk/wire'
import { wordsOf } from '../words.ts'

/** Many times the agents that talk at a time: two in one place would cost base58 at every message of theirs. A power of two. */
const SLOTS = 32_768
const KEY_WORDS = AMID_BYTES / 4
const MIN_TEXT = 20
const MAX_TEXT = 28

export class AmidMemo {
  /** Five integers each, as those of the texts. */
  readonly #keys = new Int32Array(SLOTS * KEY_WORDS)
  readonly #byBytes: (Amid | undefined)[] = Array.from({ length: SLOTS })
  readonly #textKeys = new Int32Array(SLOTS * KEY_WORDS)
  readonly #byText: (Amid | undefined)[] = Array.from({ length: SLOTS })

  /** The AMID whose 20 bytes begin at `at`. */
  fromBytes(bytes: Uint8Array, at: number): Amid {
    const words = wordsOf(bytes)
    const first = words.getInt32(at)
    // The bytes are those of a hash: any of them place it evenly.
    const slot = first & (SLOTS - 1)
    const base = slot * KEY_WORDS
    const keys = this.#keys
    const known = this.#byBytes[slot]
    if (
      known !== undefined &&
      keys[base] === first &&
      keys[base + 1] === words.getInt32(at + 4) &&
      keys[base + 2] === words.getInt32(at + 8) &&
      keys[base + 3] === words.getInt32(at + 12) &&
      keys[base + 4] === words.getInt32(at + 16)
    ) {
      return known
    }
    const amid = amidFromBytes(bytes.subarray(at, at + AMID_BYTES))
    for (let index = 0; index < KEY_WORDS; index++) keys[base + index] = words.getInt32(at + 4 * index)
    this.#byBytes[slot] = amid
    return amid
  }

  /** The AMID whose text this is, or undefined. */
  fromText(bytes: Buffer, start: number, end: number): Amid | undefined {
    const length = end - start
    if (length < MIN_TEXT || length > MAX_TEXT) return undefined
    const slot = textSlot(
      bytes[start + 9] as number,
      bytes[start + 14] as number,
      bytes[start + 18] as number,
    )
    const known = this.#byText[slot]
    if (known !== undefined && isText(known, bytes, start, end)) return known
    const text = bytes.toString('latin1', start, end)
    if (!isAmid(text)) return undefined
    this.#remember(slot, text)
    return text
  }

  /** Writes its 20 bytes at `at`. */
  write(amid: Amid, out: DataView, at: number): void {
    const slot = textSlot(amid.charCodeAt(9), amid.charCodeAt(14), amid.charCodeAt(18))
    if (this.#byText[slot] !== amid) this.#remember(slot, amid)
    const base = slot * KEY_WORDS
    for (let index = 0; index < KEY_WORDS; index++) {
      out.setInt32(at + 4 * index, this.#textKeys[base + index] as number)
    }
  }

  /** Its 20 bytes. */
  toBytes(amid: Amid): Uint8Array {
    const bytes = new Uint8Array(AMID_BYTES)
    this.write(amid, new DataView(bytes.buffer), 0)
    return bytes
  }

  #remember(slot: number, amid: Amid): void {
    const words = new DataView(Uint8Array.from(amidToBytes(amid)).buffer)
    for (let index = 0; index < KEY_WORDS; index++) {
      this.#textKeys[slot * KEY_WORDS + index] = words.getInt32(4 * index)
    }
    this.#byText[slot] = amid
  }
}

function textSlot(a: number, b: number, c: number): number {
  return (a * 961 + b * 31 + c) % SLOTS
}

function isText(known: string, bytes: Buffer, start: number, end: number): boolean {
  if (known.length !== end - start) return false
  for (let index = 0; index < known.length; index++) {
    if (known.charCodeAt(index) !== bytes[start + index]) return false
  }
  return true
}
