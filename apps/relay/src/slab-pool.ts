/**
 * The memory frames are written to: slabs of one size, counted by who holds them and used again when nobody does. A frame
 * that is larger than a slab gets one of its own, which is not used again.
 */
const SLAB_BYTES = 16 * 1024
/** Slabs nobody holds that are kept for the next writer. */
const MAX_FREE = 256

export class Slab {
  readonly bytes: Buffer
  /** `bytes`, four at a time. */
  readonly words: DataView
  /** Who may append to it. */
  owner: object | undefined
  readonly #pool: SlabPool
  #holders = 1

  constructor(bytes: number, pool: SlabPool) {
    this.bytes = Buffer.allocUnsafeSlow(bytes)
    this.words = new DataView(this.bytes.buffer)
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
  readonly none = new Slab(0, this)
  readonly #free: Slab[] = []

  /** One with room for that many bytes, held once. */
  take(bytes: number, owner: object): Slab {
    const slab = bytes > SLAB_BYTES ? new Slab(bytes, this) : (this.#free.pop() ?? new Slab(SLAB_BYTES, this))
    slab.owner = owner
    return slab
  }

  put(slab: Slab): void {
    if (slab.bytes.length !== SLAB_BYTES || this.#free.length >= MAX_FREE) return
    slab.hold()
    this.#free.push(slab)
  }
}
