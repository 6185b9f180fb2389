/**
 * What is known of a log outside of its folder. Whoever can write the files can put back an older log with its own signed head,
 * take all of it away, or add lines behind it; so its agent remembers, sealed in its state, where it ended, and whether it
 * had stopped in order. Written in this order: lines, sync, signed head, the end here; so it never names a line the disk lacks.
 *
 *     clean    nothing may follow: a further line, or half of one, is a forgery
 *     unclean  what follows up to the signed head is proven by it, what follows that is what a crash left
 *
 * A gap is whatever the owner must hear of; its id is made from what was found, so that one acknowledgement covers no other.
 */
import { lengthPrefixed, sha256 } from '../crypto/signing.ts'
import { toHex, utf8Bytes } from '../wire/index.ts'

/** The last line that the agent knows of, and its hash; line 0 is what stands before the first. */
export interface AuditEnd {
  readonly line: number
  readonly hash: string
  readonly clean: boolean
}

/** What can be wrong with the chain itself. */
export type AuditProblemKind =
  /** There is no signed head. */
  | 'head-missing'
  /** The head is not one that this key signed. */
  | 'head-forged'
  /** Lines before the head's are not there, at the end. */
  | 'truncated'
  /** Lines before the head's are not there, elsewhere: lines or a whole file deleted. */
  | 'missing'
  /** A line is not what the line after it, or the head, says it was. */
  | 'changed'
  /** A line stands where it does not belong: inserted or moved. */
  | 'out-of-order'
  /** Not a line of this log at all. */
  | 'malformed'
  /** Something stands behind the end of a log whose agent had stopped. */
  | 'added'
  /** The head signs less than the agent remembers. */
  | 'head-old'

export interface AuditGap {
  readonly id: string
  readonly kind:
    | AuditProblemKind
    /** The log before this one was set aside, or was gone. */
    | 'restarted'
    /** The disk did not take lines. */
    | 'lost-lines'
    /** A folder of a log that was set aside, of which nothing else tells. */
    | 'set-aside'
    /** Nothing trustworthy remembers where the log ended. */
    | 'end-unknown'
  readonly file?: string
  readonly line?: number
  readonly detail: string
  /** The folder in which what was there before is kept. */
  readonly set_aside?: string
}

export function gapId(...content: readonly (string | number)[]): string {
  const parts = content.map((part) => utf8Bytes(String(part)))
  return toHex(sha256(lengthPrefixed(...parts))).slice(0, 16)
}
