/** Sessions are put into the store once: never one over another. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeEnds } from '../messages/test-support.ts'
import { ANONYMOUS_STANDING } from '../session/index.ts'
import { openCore, type OpenedCore } from './open-core.ts'
import { startSession } from './session-rows.ts'

let folder: string
let opened: OpenedCore

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-sessions-'))
  opened = await openCore({ home: join(folder, 'home') })
})
afterEach(async () => {
  await opened.core.audit.close()
  opened.release()
  rmSync(folder, { recursive: true })
})

const { alice, bob } = makeEnds()
const rowOf = (session: typeof bob.session) => ({
  session,
  lane: '',
  deliverNext: 1,
  standing: ANONYMOUS_STANDING,
})

test.each([
  ['open', {}],
  ['closed', { state: 'closed', closes: 'both' }],
  ['given up', { state: 'closed', closes: 'none' }],
] as const)(
  'a session that is %s is not put over by another of its id, whoever it is with',
  async (_name, state) => {
    const { core } = opened
    const { sessions } = core.store.tables
    const first = { ...bob.session, ...state }
    await core.store.commit(() => startSession(core, rowOf(first), []))
    for (const second of [bob.session, { ...alice.session, id: first.id }]) {
      const again = core.store.commit(() => startSession(core, rowOf(second), []))
      await expect(again).rejects.toMatchObject({ code: 'SESSION_EXISTS' })
    }
    expect(sessions.get(first.id)?.session).toMatchObject({ ...state, peer: first.peer, role: first.role })
    expect(sessions.count()).toBe(1)
  },
)
