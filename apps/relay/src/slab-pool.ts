/**
 * The memory frames are written to: slabs of two sizes, counted by who holds them and used again when nobody does. A frame
 * that is larger than a slab gets one of its own, which is not used again.
 *
 * Many connections with a message or two on their way hold a slab each. The small ones keep those messages close together:
 * spread over large ones they would fall out of the processor's caches.
 */
const SMALL_BYTES = 1024
const LARGE_BYTES = 16 * 1024
/** Small slabs are cut from blocks of so many. */
const BLOCK_SLABS = 64
/** Slabs nobody holds that are kept for the next writer, in bytes of each size. */
const MAX_FREE_BYTES = 4 * 1024 * 1024

export class Slab {
  readonly bytes: Buffer
  /** `bytes`, four at a time. */
  readonly words: DataView
  /** Who may append to it. */
  owner: object | undefined
  readonly #pool: SlabPool
  #holders = 1

  constructor(bytes: Buffer, pool: SlabPool) {
    this.bytes = bytes
    this.words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#pool = pool
  }

  hold(): void {
    this.#holders += 1
  }

  /** What the caller wrote or read there is no longer needed. Who never drops it leaves it to the garbage collector. */
  drop(): void {
    this.#holders -= 1
    if (this.#holders > 0) return
    this.owner = undefined
    this.#pool.put(this)
  }
}

export class SlabPool {
  /** Has room for nothing and belongs to nobody. */
  readonly none = new Slab(Buffer.alloc(0), this)
  /** Nobody holds these. */
  readonly #small: Slab[] = []
  readonly #large: Slab[] = []
  /** What is left of a block. */
  #block = Buffer.alloc(0)

  /** One with room for that many bytes, held once. */
  take(bytes: number, owner: object): Slab {
    const slab = bytes <= SMALL_BYTES ? this.#takeSmall() : this.#takeLarge(bytes)
    slab.owner = owner
    return slab
  }

  #takeSmall(): Slab {
    const free = this.#small.pop()
    if (free !== undefined) return free
    if (this.#block.length === 0) this.#block = Buffer.allocUnsafeSlow(BLOCK_SLABS * SMALL_BYTES)
    const slab = new Slab(this.#block.subarray(0, SMALL_BYTES), this)
    this.#block = this.#block.subarray(SMALL_BYTES)
    return slab
  }

  #takeLarge(bytes: number): Slab {
    const free = bytes <= LARGE_BYTES ? this.#large.pop() : undefined
    return free ?? new Slab(Buffer.allocUnsafeSlow(Math.max(bytes, LARGE_BYTES)), this)
  }

  put(slab: Slab): void {
    const { length } = slab.bytes
    const free = length === SMALL_BYTES ? this.#small : length === LARGE_BYTES ? this.#large : undefined
    if (free === undefined || free.length * length >= MAX_FREE_BYTES) return
    slab.hold()
    free.push(slab)
  }
}
