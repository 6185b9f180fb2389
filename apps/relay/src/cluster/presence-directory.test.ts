/** What other relays say, lost, repeated and swapped. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { amidFromBytes, type Amid } from '@agentmesh/sdk/wire'
import { MAX_ITEMS, newInstanceId, type PresenceChange } from './cluster-wire.ts'
import { OwnPresence, PresenceDirectory, SILENT_MS } from './presence-directory.ts'

const instance = (number: number) => newInstanceId(() => new Uint8Array(16).fill(number))
const [here, there] = [instance(1), instance(2)]
function amid(number: number): Amid {
  const bytes = new Uint8Array(20)
  new DataView(bytes.buffer).setUint32(0, number)
  return amidFromBytes(bytes)
}
const online = (number: number, since = 1) => ({ amid: amid(number), presence: 'online' as const, since })
const gone = (number: number) => ({ amid: amid(number), presence: undefined, since: 1 })
const whole = (sequence: number, ...agents: ReturnType<typeof online>[]) => ({
  sequence,
  part: 0,
  parts: 1,
  agents,
})

describe('PresenceDirectory', () => {
  it('asks a relay it has not heard of for all its agents, and knows at once the ones that were named', () => {
    const directory = new PresenceDirectory()
    expect(directory.change(here, 9, [online(1)], 0)).toBe('ask')
    expect(directory.find(amid(1))).toEqual({ instance: here, presence: 'online', since: 1 })
    expect(directory.snapshot(here, whole(9, online(1), online(2)))).toHaveLength(2)
    expect(directory.find(amid(2))?.instance).toBe(here)
    expect(directory.change(here, 10, [gone(2)], 0)).toBeUndefined()
    expect(directory.find(amid(2))).toBeUndefined()
  })

  it('asks again when a change was left out, or a heartbeat shows that the last one was', () => {
    const directory = new PresenceDirectory()
    directory.change(here, 1, [online(1)], 0)
    directory.snapshot(here, whole(1, online(1)))
    expect(directory.change(here, 1, [], 2000)).toBeUndefined()
    expect(directory.change(here, 3, [online(3)], 2000)).toBe('ask')
    directory.snapshot(here, whole(3, online(2), online(3)))
    expect(directory.find(amid(1))).toBeUndefined()
    expect(directory.change(here, 4, [], 4000)).toBe('ask')
    expect(directory.change(here, 4, [], 4500)).toBeUndefined()
    expect(directory.change(here, 4, [], 5000)).toBe('ask')
  })

  it('takes neither a repeated nor a late change for news', () => {
    const directory = new PresenceDirectory()
    directory.change(here, 1, [online(1)], 0)
    directory.change(here, 2, [gone(1)], 0)
    directory.change(here, 1, [online(1)], 0)
    expect(directory.find(amid(1))).toBeUndefined()
    expect(directory.snapshot(here, whole(1, online(1)))).toBeUndefined()
    expect(directory.find(amid(1))).toBeUndefined()
  })

  it('finds an agent where it connected last', () => {
    const directory = new PresenceDirectory()
    directory.change(here, 1, [online(1, 20)], 0)
    directory.change(there, 1, [online(1, 10)], 0)
    expect(directory.find(amid(1))?.instance).toBe(here)
    directory.change(here, 2, [gone(1)], 0)
    expect(directory.find(amid(1))?.instance).toBe(there)
  })

  it('names the relays that are silent, and forgets one with its agents', () => {
    const directory = new PresenceDirectory()
    directory.change(here, 1, [online(1)], 0)
    directory.change(there, 1, [online(2)], SILENT_MS)
    expect(directory.silent(SILENT_MS, SILENT_MS)).toEqual([])
    expect(directory.silent(SILENT_MS + 1, SILENT_MS)).toEqual([here])
    expect([directory.forget(here), directory.forget(here)]).toEqual([true, false])
    expect([directory.find(amid(1)), directory.find(amid(2))?.instance]).toEqual([undefined, there])
  })

  it('takes no snapshot nobody asked for, and none of which a part is missing', () => {
    const directory = new PresenceDirectory()
    expect(directory.snapshot(here, whole(1, online(1)))).toBeUndefined()
    directory.change(here, 5, [], 0)
    const half = (part: number, agent: number) => ({ sequence: 5, part, parts: 2, agents: [online(agent)] })
    expect(directory.snapshot(here, half(0, 1))).toBeUndefined()
    expect(directory.snapshot(here, half(0, 1))).toBeUndefined()
    expect(directory.find(amid(1))).toBeUndefined()
    expect(directory.snapshot(here, half(1, 2))).toHaveLength(2)
  })

  it('knows no more relays than a service can have', () => {
    const directory = new PresenceDirectory()
    for (let number = 0; number < 300; number++) {
      const bytes = new Uint8Array(16)
      new DataView(bytes.buffer).setUint32(0, number)
      directory.change(
        newInstanceId(() => bytes),
        1,
        [],
        0,
      )
    }
    expect(directory.size).toBe(256)
  })

  it('is right again one heartbeat after whatever happened on the way', () => {
    const act = fc.record({
      agent: fc.nat({ max: 5 }),
      does: fc.constantFrom('come' as const, 'go' as const, 'away' as const),
      way: fc.constantFrom(
        'arrives' as const,
        'arrives' as const,
        'lost' as const,
        'twice' as const,
        'late' as const,
      ),
    })
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const own = new OwnPresence()
        const directory = new PresenceDirectory()
        let now = 0
        type Change = { sequence: number; changes: readonly PresenceChange[] }
        const hear = ({ sequence, changes }: Change) => {
          if (directory.change(here, sequence, changes, now) !== 'ask') return
          for (const part of own.snapshot()) directory.snapshot(here, part)
        }
        const late: Change[] = []
        for (const { agent, does, way } of acts) {
          if (does === 'go') own.delete(amid(agent))
          else own.set({ ...online(agent, now), presence: does === 'come' ? 'online' : 'away' })
          for (const change of own.takeChanges()) {
            if (way === 'late') late.push(change)
            if (way === 'arrives' || way === 'twice') hear(change)
            if (way === 'twice') hear(change)
          }
          if (way === 'arrives') late.splice(0).forEach(hear)
        }
        late.forEach(hear)
        now = 10_000
        hear({ sequence: own.sequence, changes: [] })
        for (let agent = 0; agent <= 5; agent++) {
          const truth = own.get(amid(agent))
          const { presence, since } = directory.find(amid(agent)) ?? {}
          expect({ presence, since }).toEqual({ presence: truth?.presence, since: truth?.since })
        }
      }),
    )
  })
})

describe('OwnPresence', () => {
  it('says once what changed, and the last word on each agent', () => {
    const own = new OwnPresence()
    own.set(online(1))
    own.set({ ...online(1), presence: 'away' })
    own.set(online(2))
    own.delete(amid(2))
    own.delete(amid(3))
    expect(own.takeChanges()).toEqual([
      { sequence: 1, changes: [{ ...online(1), presence: 'away' }, gone(2)] },
    ])
    expect(own.takeChanges()).toEqual([])
    expect(own.snapshot()).toEqual([whole(1, { ...online(1), presence: 'away' as never })])
  })

  it('says it in as many messages as it takes', () => {
    const own = new OwnPresence()
    for (let number = 0; number <= MAX_ITEMS; number++) own.set(online(number))
    expect(own.takeChanges().map(({ changes }) => changes.length)).toEqual([MAX_ITEMS, 1])
    expect(own.snapshot().map(({ sequence, part, parts }) => [sequence, part, parts])).toEqual([
      [2, 0, 2],
      [2, 1, 2],
    ])
  })
})
