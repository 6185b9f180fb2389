/** The hint about sessions on which messages wait: too many are harmless, one too few would leave a message there. */
import { describe, expect, it } from 'vitest'
import { systemRandom } from '../crypto/index.ts'
import { newSessionId } from '../wire/index.ts'
import { WaitingOn } from './lanes.ts'

describe('the sessions on which messages may wait', () => {
  const session = newSessionId(systemRandom)

  /** A commit's work; returns what it left to do once it is on disk. */
  const work = (does: (afterCommit: (() => void)[]) => void): (() => void) => {
    const afterCommit: (() => void)[] = []
    does(afterCommit)
    return () => {
      for (const effect of afterCommit) effect()
    }
  }

  it('forgets a session when the commit that emptied it is on disk, not before', () => {
    const waiting = new WaitingOn()
    waiting.add(session)
    const committed = work((afterCommit) => waiting.delete(session, afterCommit))
    expect(waiting.has(session)).toBe(true)
    committed()
    expect(waiting.has(session)).toBe(false)
  })

  it('keeps a session whose emptying was undone', () => {
    const waiting = new WaitingOn()
    waiting.add(session)
    work((afterCommit) => waiting.delete(session, afterCommit))
    expect(waiting.has(session)).toBe(true)
  })

  it('keeps a session to which a later work of the group added a message', () => {
    const waiting = new WaitingOn()
    waiting.add(session)
    const emptied = work((afterCommit) => waiting.delete(session, afterCommit))
    waiting.add(session)
    emptied()
    expect(waiting.has(session)).toBe(true)
  })
})
