/** A text that is looked for and written over and over: compared and copied four bytes at a time, the last four of any length. */
const WORD = 4

export class Ascii {
  readonly length: number
  readonly #words: Int32Array
  /** Its last four bytes, which may overlap the word before. */
  readonly #last: number

  /** @param text at least four characters, all of them ASCII */
  constructor(text: string) {
    const bytes = new Uint8Array(Buffer.from(text, 'latin1'))
    const view = new DataView(bytes.buffer)
    this.length = bytes.length
    this.#words = Int32Array.from({ length: Math.floor((bytes.length - 1) / WORD) }, (_, index) =>
      view.getInt32(index * WORD),
    )
    this.#last = view.getInt32(bytes.length - WORD)
  }

  /** Whether it stands at `start`, and before `end`. */
  isAt(words: DataView, start: number, end: number): boolean {
    const { length } = this
    if (end - start < length) return false
    const own = this.#words
    for (let index = 0; index < own.length; index++) {
      if (own[index] !== words.getInt32(start + index * WORD)) return false
    }
    return words.getInt32(start + length - WORD) === this.#last
  }

  put(words: DataView, at: number): void {
    const own = this.#words
    for (let index = 0; index < own.length; index++) words.setInt32(at + index * WORD, own[index] as number)
    words.setInt32(at + this.length - WORD, this.#last)
  }
}
