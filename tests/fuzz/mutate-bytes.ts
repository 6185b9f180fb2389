/** Changes to bytes that a reader of binary fields has to survive: bits, lengths, splices, cuts, repeats. */
import type { Random } from './random.ts'

/** Inputs stay below this, so that a million of them end; larger ones come from `swell` alone. */
const MAX_INPUT_BYTES = 64 * 1024
/** More than any limit of a reader but the policy file's. */
export const MAX_SWOLLEN_BYTES = 320 * 1024

const EDGE_BYTES = [0x00, 0x01, 0x02, 0x0f, 0x10, 0x20, 0x22, 0x5c, 0x7f, 0x80, 0x81, 0xed, 0xfe, 0xff]
const EDGE_NUMBERS = [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000]

function replaced(bytes: Uint8Array, start: number, end: number, middle: Uint8Array): Uint8Array {
  const out = new Uint8Array(start + middle.length + bytes.length - end)
  out.set(bytes.subarray(0, start))
  out.set(middle, start)
  out.set(bytes.subarray(end), start + middle.length)
  return out
}

/** A stretch of the input: short mostly, sometimes anything. */
function stretch(bytes: Uint8Array, random: Random): [start: number, end: number] {
  const start = random.below(bytes.length)
  const most = bytes.length - start
  return [start, start + (random.oneIn(4) ? random.below(most + 1) : random.below(Math.min(most, 8) + 1))]
}

/** A big-endian length or number somewhere, set to an edge, to what is left, or to a little more or less than it was. */
function editNumber(bytes: Uint8Array, random: Random): Uint8Array {
  const width = random.pick([1, 2, 2, 4, 8])
  if (bytes.length < width) return bytes
  const out = Uint8Array.from(bytes)
  const view = new DataView(out.buffer)
  // Lengths stand near the front more often than not.
  const room = out.length - width + 1
  const at = random.oneIn(2) ? random.below(room) : random.below(Math.min(room, 64))
  const left = out.length - at - width
  const values = [left, left + 1, Math.max(0, left - 1), random.pick(EDGE_NUMBERS), 0xffff_ffff, random.u32()]
  if (width === 1) out[at] = random.oneIn(2) ? out[at]! + random.pick([-1, 1]) : random.pick(values)
  else if (width === 2) {
    view.setUint16(at, random.oneIn(2) ? view.getUint16(at) + random.pick([-1, 1]) : random.pick(values))
  } else if (width === 4) {
    view.setUint32(at, random.oneIn(2) ? view.getUint32(at) + random.pick([-1, 1]) : random.pick(values))
  } else {
    view.setUint32(at, random.pick([0, 0x1f_ffff, 0x20_0000, 0xffff_ffff]))
    view.setUint32(at + 4, random.pick([0, 1, 0xffff_ffff, random.u32()]))
  }
  return out
}

type Change = (bytes: Uint8Array, random: Random, other: Uint8Array) => Uint8Array

const CHANGES: readonly Change[] = [
  function flipBits(bytes, random) {
    const out = Uint8Array.from(bytes)
    for (let count = 1 + random.below(4); count > 0 && out.length > 0; count--) {
      const at = random.below(out.length)
      out[at] = out[at]! ^ (1 << random.below(8))
    }
    return out
  },
  function setByte(bytes, random) {
    const out = Uint8Array.from(bytes)
    if (out.length > 0) out[random.below(out.length)] = random.pick(EDGE_BYTES)
    return out
  },
  editNumber,
  editNumber,
  function cutEnd(bytes, random) {
    return bytes.slice(
      0,
      random.oneIn(2) ? random.below(bytes.length) : Math.max(0, bytes.length - 1 - random.below(4)),
    )
  },
  function cutOut(bytes, random) {
    const [start, end] = stretch(bytes, random)
    return replaced(bytes, start, end, new Uint8Array(0))
  },
  function append(bytes, random) {
    return replaced(bytes, bytes.length, bytes.length, random.bytes(1 + random.below(16)))
  },
  function insert(bytes, random) {
    const at = random.below(bytes.length + 1)
    return replaced(bytes, at, at, random.bytes(1 + random.below(8)))
  },
  function repeat(bytes, random) {
    const [start, end] = stretch(bytes, random)
    return replaced(bytes, end, end, bytes.subarray(start, end))
  },
  function overwrite(bytes, random) {
    const [start, end] = stretch(bytes, random)
    const fill = random.oneIn(2)
      ? random.bytes(end - start)
      : new Uint8Array(end - start).fill(random.pick(EDGE_BYTES))
    return replaced(bytes, start, end, fill)
  },
  function splice(bytes, random, other) {
    return replaced(
      bytes,
      random.below(bytes.length),
      bytes.length,
      other.subarray(random.below(other.length)),
    )
  },
  function transplant(bytes, random, other) {
    const [start, end] = stretch(bytes, random)
    const [from, to] = stretch(other, random)
    return replaced(bytes, start, end, other.subarray(from, to))
  },
]

/** One change; `other` is another seed to take pieces from. */
export function mutateBytes(bytes: Uint8Array, random: Random, other: Uint8Array): Uint8Array {
  return random.pick(CHANGES)(bytes, random, other).subarray(0, MAX_INPUT_BYTES)
}

/** A piece of the input repeated until the whole is far larger than it should be. */
export function swell(bytes: Uint8Array, random: Random): Uint8Array {
  if (bytes.length === 0) return bytes
  const [start, end] = stretch(bytes, random)
  const unit = bytes.subarray(start, Math.max(end, start + 1))
  const times = Math.floor((1 + random.below(MAX_SWOLLEN_BYTES)) / unit.length)
  const middle = new Uint8Array(times * unit.length)
  for (let index = 0; index < times; index++) middle.set(unit, index * unit.length)
  return replaced(bytes, start, start + unit.length, middle)
}
