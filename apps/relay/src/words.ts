/** Buffers read and written four bytes at a time: what a byte at a time would cost is most of what a message costs. */

/** The view that was asked for last: nearly always that of the one buffer all sockets are read into. */
let view: DataView = new DataView(new ArrayBuffer(0))
let viewed: Uint8Array | undefined

export function wordsOf(data: Uint8Array): DataView {
  if (data !== viewed) {
    view = new DataView(data.buffer, data.byteOffset, data.length)
    viewed = data
  }
  return view
}

/** Above this many bytes the call into the runtime is the cheaper way to copy. */
const MAX_COPIED_HERE = 512

/** Copies `data` from `start` to `end` to `out` at `at`. @param outWords the view of `out` */
export function copyBytes(
  data: Buffer,
  start: number,
  end: number,
  out: Buffer,
  outWords: DataView,
  at: number,
): void {
  if (end - start > MAX_COPIED_HERE) {
    data.copy(out, at, start, end)
    return
  }
  const words = wordsOf(data)
  let from = start
  let to = at
  for (const last = end - 16; from <= last; from += 16, to += 16) {
    outWords.setInt32(to, words.getInt32(from))
    outWords.setInt32(to + 4, words.getInt32(from + 4))
    outWords.setInt32(to + 8, words.getInt32(from + 8))
    outWords.setInt32(to + 12, words.getInt32(from + 12))
  }
  for (; from < end; from++, to++) out[to] = data[from] as number
}
