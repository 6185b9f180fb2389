/** Where a packet of a session belongs: the associated data of its encryption (DESIGN §7.1). */
import { associatedData, type Session } from '../session/index.ts'
import { idToBytes } from '../wire/index.ts'

export function placeOf(session: Session, type: 'message' | 'close', way: 'out' | 'in'): Uint8Array {
  const [from, to] = way === 'out' ? [session.self, session.peer] : [session.peer, session.self]
  return associatedData({ type, version: session.version, context: idToBytes(session.id), from, to })
}
