import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import {
  encodeLogEntry,
  leafHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
  verifyTreeHead,
  type LogEntry,
} from '@agentmesh/sdk/identity'
import { fromBase64, isAgentMeshError, toHex, utf8Bytes } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { TransparencyLog } from '../transparency/transparency-log.ts'
import { onBothEngines } from './test-support-engines.ts'
import type { Store } from './store.ts'

const NOW = 1_800_000_000_000
const registry = { fingerprint: 'ab'.repeat(32), serviceKey: ed25519KeyPair(sha256(utf8Bytes('service'))) }
const key = { fingerprint: registry.fingerprint, serviceKey: registry.serviceKey.publicKey }

const entry = (name: string, kind: LogEntry['kind'] = 'certificate'): LogEntry => ({
  kind,
  timestamp: NOW,
  content: utf8Bytes(`content ${name}`),
})
const append = (store: Store, name: string, kind?: LogEntry['kind']) =>
  store.transaction('append', (tx) => store.transparency.append(tx, entry(name, kind)))
const leavesOf = (names: readonly string[]) => names.map((name) => leafHash(encodeLogEntry(entry(name))))
const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

/** What the log must do on every database; `open` gives a store on a fresh one, `others` more stores on the same. */
function logContract(
  name: string,
  open: () => Promise<Store>,
  others: () => Promise<readonly Store[]>,
): void {
  describe(name, () => {
    let store: Store
    let log: TransparencyLog
    beforeEach(async () => {
      store = await open()
      log = new TransparencyLog(store.transparency, registry)
    })
    afterEach(async () => {
      await store.close()
    })

    it('begins empty, with a signed head', async () => {
      const head = await log.head(NOW)
      expect(verifyTreeHead(head, key)).toEqual({ size: 0, rootHash: rootOf([]), timestamp: NOW })
      expect(await log.entries(0, 10, 1000)).toEqual({ start: 0, entries: [] })
      expect(await log.consistency(0, 0)).toEqual({ from: 0, to: 0, path: [] })
    })

    it('proves every entry and every earlier tree, at each size it grows through', async () => {
      const names = numbers(21).map(String)
      const leaves = leavesOf(names)
      for (const [index, text] of names.entries()) {
        expect(await append(store, text)).toBe(index)
        const size = index + 1
        const root = rootOf(leaves.slice(0, size))
        expect(verifyTreeHead(await log.head(NOW), key)).toMatchObject({ size, rootHash: root })
      }
      for (const size of numbers(22)) {
        const root = rootOf(leaves.slice(0, size))
        for (const index of numbers(size)) {
          const proof = await log.inclusion(index, size)
          expect(fromBase64(proof.leaf_hash)).toEqual(leaves[index])
          const path = proof.path.map(fromBase64)
          expect(verifyInclusion({ leaf: fromBase64(proof.leaf_hash), index, size, root, path })).toBe(true)
        }
        for (const from of numbers(size + 1)) {
          const path = (await log.consistency(from, size)).path.map(fromBase64)
          const fromRoot = rootOf(leaves.slice(0, from))
          expect(verifyConsistency({ from, to: size, fromRoot, toRoot: root, path })).toBe(true)
        }
      }
    })

    it('gives its entries in pages, as they went in', async () => {
      for (const index of numbers(5)) await append(store, `${index}`, index === 3 ? 'revocation' : undefined)
      const all = [0, 1, 2].map((index) => encodeLogEntry(entry(`${index}`)))
      expect((await log.entries(0, 3, 100_000)).entries.map(fromBase64)).toEqual(all)
      expect((await log.entries(3, 100, 100_000)).entries.map(fromBase64)).toEqual([
        encodeLogEntry(entry('3', 'revocation')),
        encodeLogEntry(entry('4')),
      ])
      expect((await log.entries(0, 3, 40)).entries).toHaveLength(2)
      expect((await log.entries(0, 3, 1)).entries).toHaveLength(1)
      expect((await log.entries(5, 3, 1)).entries).toEqual([])
    })

    it('refuses what lies beyond its end', async () => {
      await append(store, 'a')
      await append(store, 'b')
      for (const asked of [
        () => log.entries(3, 1, 1),
        () => log.inclusion(0, 3),
        () => log.inclusion(1, 1),
        () => log.inclusion(2, 2),
        () => log.consistency(1, 3),
        () => log.consistency(2, 1),
        () => log.certificateProof(toHex(sha256(utf8Bytes('content c'))), NOW),
      ]) {
        const failure = await asked().catch((error: unknown) => error)
        expect(isAgentMeshError(failure, 'NOT_FOUND')).toBe(true)
      }
    })

    it('finds certificates by their hash, and nothing else', async () => {
      await append(store, 'a')
      await append(store, 'b', 'revocation')
      await append(store, 'a')
      const hash = (text: string) => toHex(sha256(utf8Bytes(`content ${text}`)))
      expect(await store.transparency.findCertificate(hash('a'))).toEqual({
        index: 0,
        entry: encodeLogEntry(entry('a')),
      })
      expect(await store.transparency.findCertificate(hash('b'))).toBeUndefined()
    })

    it('leaves no hole and serves nothing when the transaction of an entry is undone', async () => {
      await append(store, 'a')
      const undone = store.transaction('append', async (tx) => {
        expect(await store.transparency.append(tx, entry('never'))).toBe(1)
        expect(await store.transparency.append(tx, entry('nor this'))).toBe(2)
        throw new Error('undo')
      })
      await expect(undone).rejects.toThrow('database')
      expect(await append(store, 'b')).toBe(1)
      expect(verifyTreeHead(await log.head(NOW), key)).toMatchObject({
        size: 2,
        rootHash: rootOf(leavesOf(['a', 'b'])),
      })
    })

    it('takes several entries in one transaction', async () => {
      const indexes = await store.transaction('append', async (tx) => {
        const given: number[] = []
        for (const text of ['a', 'b', 'c', 'd', 'e'])
          given.push(await store.transparency.append(tx, entry(text)))
        return given
      })
      expect(indexes).toEqual([0, 1, 2, 3, 4])
      expect(verifyTreeHead(await log.head(NOW), key).rootHash).toEqual(
        rootOf(leavesOf(['a', 'b', 'c', 'd', 'e'])),
      )
    })

    it('refuses an entry that is too large, and then nothing of its transaction stays', async () => {
      const large = { ...entry('a'), content: new Uint8Array(4_088) }
      const failure = await store
        .transaction('append', (tx) => store.transparency.append(tx, large))
        .catch((error: unknown) => error)
      expect(isAgentMeshError(failure, 'TOO_LARGE')).toBe(true)
      expect(await store.transparency.size()).toBe(0)
    })

    it('gives every index once when many append at once, some of them undone', async () => {
      const more = await others()
      const stores = [store, ...more]
      try {
        const outcomes = await Promise.all(
          numbers(60).map((number) => {
            const one = stores[number % stores.length]!
            return one
              .transaction('append', async (tx) => {
                const index = await one.transparency.append(tx, entry(`${number}`))
                if (number % 5 === 4) throw new Error('undo')
                return { index, number }
              })
              .catch(() => undefined)
          }),
        )
        const taken = outcomes.filter((outcome) => outcome !== undefined)
        expect(taken.map(({ index }) => index).toSorted((a, b) => a - b)).toEqual(numbers(48))
        const names = taken.toSorted((a, b) => a.index - b.index).map(({ number }) => `${number}`)
        for (const each of stores) {
          const head = await new TransparencyLog(each.transparency, registry).head(NOW)
          expect(verifyTreeHead(head, key)).toMatchObject({ size: 48, rootHash: rootOf(leavesOf(names)) })
        }
      } finally {
        await Promise.all(more.map((each) => each.close()))
      }
    })

    it('signs a head again when the log has grown or the signature is old, and not before', async () => {
      await append(store, 'a')
      const head = await log.head(NOW)
      expect(await log.head(NOW + 299_999)).toBe(head)
      const later = await log.head(NOW + 300_000)
      expect(verifyTreeHead(later, key)).toEqual({
        ...verifyTreeHead(head, key),
        timestamp: NOW + 300_000,
      })
      await append(store, 'b')
      expect((await log.head(NOW + 300_001)).size).toBe(2)
    })
  })
}

onBothEngines((engine, open, again) =>
  logContract(
    `the log on ${engine}`,
    open,
    // Another connection of this process would block the one event loop both need.
    () => (engine === 'SQLite' ? Promise.resolve([]) : Promise.all([again(), again(), again()])),
  ),
)
