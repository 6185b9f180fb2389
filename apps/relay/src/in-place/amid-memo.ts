/**
 * The AMIDs seen lately, in both spellings: base58 costs more than all else a message needs. Two tables of fixed size, in
 * which an AMID has one place and whoever came last is there.
 */
import { AMID_BYTES, amidFromBytes, amidToBytes, isAmid, type Amid } from '@agentmesh/sdk/wire'

const SLOTS = 8192
const MIN_TEXT = 20
const MAX_TEXT = 28

export class AmidMemo {
  readonly #bytes = Buffer.alloc(SLOTS * AMID_BYTES)
  readonly #byBytes: (Amid | undefined)[] = Array.from({ length: SLOTS })
  readonly #texts = Buffer.alloc(SLOTS * AMID_BYTES)
  readonly #byText: (Amid | undefined)[] = Array.from({ length: SLOTS })

  /** The AMID whose 20 bytes begin at `at`. */
  fromBytes(bytes: Buffer, at: number): Amid {
    // The bytes are those of a hash: any of them place it evenly.
    const slot = ((bytes[at] as number) | ((bytes[at + 1] as number) << 8)) % SLOTS
    const known = this.#byBytes[slot]
    const base = slot * AMID_BYTES
    if (known !== undefined && sameBytes(this.#bytes, base, bytes, at)) return known
    const amid = amidFromBytes(bytes.subarray(at, at + AMID_BYTES))
    bytes.copy(this.#bytes, base, at, at + AMID_BYTES)
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
  write(amid: Amid, out: Buffer, at: number): void {
    const slot = textSlot(amid.charCodeAt(9), amid.charCodeAt(14), amid.charCodeAt(18))
    if (this.#byText[slot] !== amid) this.#remember(slot, amid)
    const base = slot * AMID_BYTES
    for (let index = 0; index < AMID_BYTES; index++) out[at + index] = this.#texts[base + index] as number
  }

  #remember(slot: number, amid: Amid): void {
    this.#texts.set(amidToBytes(amid), slot * AMID_BYTES)
    this.#byText[slot] = amid
  }
}

function textSlot(a: number, b: number, c: number): number {
  return (a * 961 + b * 31 + c) % SLOTS
}

function sameBytes(known: Buffer, base: number, bytes: Buffer, at: number): boolean {
  for (let index = 0; index < AMID_BYTES; index++) {
    if (known[base + index] !== bytes[at + index]) return false
  }
  return true
}

function isText(known: string, bytes: Buffer, start: number, end: number): boolean {
  if (known.length !== end - start) return false
  for (let index = 0; index < known.length; index++) {
    if (known.charCodeAt(index) !== bytes[start + index]) return false
  }
  return true
}
