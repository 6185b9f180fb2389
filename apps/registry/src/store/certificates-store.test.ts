import { ed25519KeyPair, sha256, systemRandom, type KeyPair } from '@agentmesh/sdk/crypto/signing'
import { amidFromPublicKey, parseCrl } from '@agentmesh/sdk/identity'
import { amidToBytes, formatKey, fromBase64, toHex, utf8Bytes, type Amid } from '@agentmesh/sdk/wire'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { makeAuthorityKeys } from '../authority/authority-keys.ts'
import type { CertificateAuthority } from '../authority/certificate-authority.ts'
import { startCertification } from '../authority/certification.ts'
import { DEFAULT_LIMITS } from '../limits.ts'
import { onBothEngines } from './test-support-engines.ts'
import type { Store } from './store.ts'

const NOW = 1_800_000_000_000
const DAY = 86_400_000
const pairOf = (name: string): KeyPair => ed25519KeyPair(sha256(utf8Bytes(name)))
const amidOf = (name: string): Amid => amidFromPublicKey(pairOf(name).publicKey)
const names = (count: number, prefix = 'agent') =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`)
const NOBODY = ['192.0.2.1', '192.0.2.2']

/**
 * What every store must do; `second` gives that of a second registry on the same database. On SQLite it is the same one: there
 * two registries are two processes, and in one process the wait for a lock would hold up whoever has it.
 */
function contract(title: string, open: () => Promise<Store>, second: (first: Store) => Promise<Store>): void {
  describe(title, () => {
    let store: Store
    let other: Store
    let authority: CertificateAuthority
    let twin: CertificateAuthority
    let restart: () => Promise<unknown>

    beforeEach(async () => {
      store = await open()
      other = await second(store)
      const url = 'http://registry.example'
      const keys = makeAuthorityKeys({ name: 'Test', url, now: NOW, random: systemRandom })
      const start = (of: Store) => startCertification(keys, of, DEFAULT_LIMITS, NOBODY, NOW)
      authority = (await start(store)).authority
      twin = (await start(other)).authority
      restart = () => start(store)
    })
    afterEach(async () => {
      await store.close()
      if (other !== store) await other.close()
    })

    const register = async (...list: string[]) => {
      for (const name of list) {
        await store.putAgent(
          {
            amid: amidOf(name),
            record: '{}',
            sequence: 1,
            exchangeKey: 'x25519:x',
            exchangeSequence: 1,
            recoveryKey: undefined,
            presence: undefined,
            capabilities: [],
          },
          { create: true, maxAgents: 1000 },
          NOW,
        )
      }
    }
    const verify = (name: string, person = 'person', by = authority) =>
      by.verifyAgent(
        {
          amid: amidOf(name),
          publicKey: pairOf(name).publicKey,
          tier: 1,
          displayName: name,
          human: sha256(utf8Bytes(person)),
        },
        NOW,
      )
    const organization = (name: string, domain: string) =>
      store.transaction('ask', (tx) =>
        store.certificates.putOrganization(
          tx,
          { amid: amidOf(name), public_key: formatKey('ed25519', pairOf(name).publicKey), domain, name },
          NOW,
        ),
      )
    const setStatus = (name: string, status: 'verified' | 'grace' | 'suspended', checked_at = NOW) =>
      store.transaction('set', (tx) =>
        store.certificates.setOrganization(tx, amidOf(name), { status, checked_at }),
      )

    it('holds the limit of a human over two registries that verify at once', async () => {
      const all = names(14)
      await register(...all)
      const size = await store.transparency.size()
      const outcomes = await Promise.allSettled(
        all.map((name, index) => verify(name, 'person', index % 2 === 0 ? authority : twin)),
      )
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10)
      for (const [index, outcome] of outcomes.entries()) {
        const agent = await store.getAgent(amidOf(all[index]!))
        expect(agent?.tier).toBe(outcome.status === 'fulfilled' ? 1 : 2)
      }
      // Who was refused left nothing behind: no certificate, no entry.
      expect(await store.transparency.size()).toBe(size + 10)
      const { keyId } = authority.intermediate
      const refused = outcomes.findIndex(({ status }) => status === 'rejected')
      expect(await store.certificates.newestOfAgent(amidOf(all[refused]!), keyId, NOW)).toBeUndefined()
    })

    it('gives each list of two registries a number of its own, and loses no revocation', async () => {
      const all = names(8)
      await register(...all)
      for (const name of all) await verify(name, `person of ${name}`)
      const { keyId } = authority.intermediate
      const before = (await store.certificates.list(keyId))!.number
      await Promise.all(
        all.map((name, index) =>
          (index % 2 === 0 ? authority : twin).revokeAgent(amidOf(name), 'keyCompromise', NOW),
        ),
      )
      const list = parseCrl(fromBase64(await twin.lists.current(keyId, NOW)))
      expect([list.number, list.entries.size]).toEqual([before + 8, 8])
      expect(await authority.lists.current(keyId, NOW)).toBe(await twin.lists.current(keyId, NOW))
    })

    it('counts a human’s agent once, and no more when it is gone', async () => {
      const all = names(11)
      await register(...all)
      for (const name of all.slice(0, 10)) await verify(name)
      await verify(all[0]!)
      await expect(verify(all[10]!)).rejects.toMatchObject({ code: 'AGENTS_OF_HUMAN_LIMIT' })
      await store.deleteAgent(amidOf(all[3]!))
      await expect(verify(all[10]!)).resolves.toBeDefined()
      expect(await store.certificates.humanOf(amidOf(all[3]!))).toBeUndefined()
    })

    it('keeps a certificate once', async () => {
      await register('a')
      const { chain } = await verify('a')
      const { keyId } = authority.intermediate
      const stored = (await store.certificates.newestOfAgent(amidOf('a'), keyId, NOW))!
      expect(stored.der).toBe(chain[0])
      const again = await store.transaction('add', (tx) =>
        store.certificates.add(tx, {
          issuer: stored.issuer,
          serial: stored.serial,
          kind: 'agent',
          subject: stored.subject,
          amid: stored.amid,
          der: 'other',
          notBefore: 0,
          notAfter: NOW * 2,
        }),
      )
      expect(again).toBe(false)
      expect((await store.certificates.newestOfAgent(amidOf('a'), keyId, NOW))?.der).toBe(chain[0])
      expect(await store.certificates.newestOfAgent(amidOf('a'), keyId, NOW + 31 * DAY)).toBeUndefined()
    })

    it('counts a membership from when the agent agreed, and ends one of before at the next start', async () => {
      await register('acme', 'bob')
      await organization('acme', 'acme.example')
      await setStatus('acme', 'verified')
      await restart()
      const acme = toHex(amidToBytes(amidOf('acme')))
      const membership = { issuer: acme, serial: '02' }
      const row = { ...membership, kind: 'agent', subject: 'b', amid: amidOf('bob'), der: 'bob' } as const
      await store.transaction('add', (tx) =>
        store.certificates.add(tx, { ...row, notBefore: NOW, notAfter: NOW + DAY }),
      )
      const restand = () => store.transaction('restand', (tx) => authority.restand(tx, amidOf('bob'), NOW))
      const stands = async () => {
        const { tier, organization: name } = (await store.getAgent(amidOf('bob')))!
        return [tier, name]
      }
      await restand()
      expect(await stands()).toEqual([2, null])
      expect(await store.certificates.membership(amidOf('bob'), NOW)).toBeUndefined()
      // As it was when the organisation's word was enough.
      const standing = { tier: 1.5, verifiedName: null, organization: 'acme (acme.example)' } as const
      await store.transaction('stand', (tx) => store.certificates.setStanding(tx, amidOf('bob'), standing))
      await restart()
      expect(await stands()).toEqual([2, null])

      for (const at of [NOW + 1, NOW + 2])
        await store.transaction('agree', (tx) => store.certificates.agree(tx, membership, at))
      await restand()
      await restart()
      expect(await stands()).toEqual([1.5, 'acme (acme.example)'])
      expect(await store.certificates.memberSince(amidOf('bob'), NOW)).toBe(NOW + 1)
      expect(await store.certificates.memberSince(amidOf('bob'), NOW + DAY)).toBeUndefined()
    })

    it('takes a list of somebody else only when it is newer', async () => {
      const put = (number: number, of = store) =>
        of.transaction('put', (tx) =>
          of.certificates.putForeignList(tx, {
            issuer: 'ab',
            number,
            der: `list ${number}`,
            this_update: NOW,
            next_update: NOW + DAY,
          }),
        )
      expect([await put(5), await put(5), await put(4, other), await put(6, other)]).toEqual([
        true,
        false,
        false,
        true,
      ])
      const raced = await Promise.all([put(9), put(7, other), put(8)])
      expect(raced[0]).toBe(true)
      expect((await store.certificates.list('ab'))?.der).toBe('list 9')
    })

    it('lets a domain have one organisation at a time', async () => {
      await organization('one', 'acme.example')
      await organization('two', 'acme.example')
      await setStatus('one', 'verified')
      await expect(setStatus('two', 'verified')).rejects.toMatchObject({ code: 'STORE_FAILED' })
      await setStatus('one', 'grace')
      await expect(setStatus('two', 'verified')).rejects.toMatchObject({ code: 'STORE_FAILED' })
      await setStatus('one', 'suspended')
      await setStatus('two', 'verified')
    })

    it('keeps a verified organisation as it is when it asks again', async () => {
      await organization('one', 'acme.example')
      await setStatus('one', 'verified')
      await organization('one', 'other.example')
      expect(await store.certificates.organization(amidOf('one'))).toMatchObject({
        domain: 'acme.example',
        status: 'verified',
      })
      await setStatus('one', 'suspended')
      await organization('one', 'other.example')
      expect(await store.certificates.organization(amidOf('one'))).toMatchObject({
        domain: 'other.example',
        status: 'pending',
      })
    })

    it('gives each organisation that is due to one of two registries', async () => {
      for (const name of names(6, 'org')) {
        await organization(name, `${name}.example`)
        await setStatus(name, 'verified', NOW - 2 * DAY)
      }
      await organization('pending', 'pending.example')
      await organization('fresh', 'fresh.example')
      await setStatus('fresh', 'grace', NOW - 1000)
      const taken = await Promise.all([
        store.certificates.takeDue(NOW - DAY, NOW, 4),
        other.certificates.takeDue(NOW - DAY, NOW, 4),
      ])
      const rest = await store.certificates.takeDue(NOW - DAY, NOW, 10)
      const all = [...taken.flat(), ...rest].map(({ domain }) => domain)
      expect(all.toSorted()).toEqual(names(6, 'org').map((name) => `${name}.example`))
      expect(taken.every((part) => part.length <= 4)).toBe(true)
    })

    it('lets the first of two successors stand', async () => {
      const row = (heir: string) => ({
        old_amid: amidOf('old'),
        new_amid: amidOf(heir),
        statement: '{}',
        taken_at: NOW,
      })
      const add = (heir: string, of: Store) =>
        of.transaction('add', (tx) => of.certificates.addSuccession(tx, row(heir)))
      const [one, two] = await Promise.all([add('one', store), add('two', other)])
      expect(one).toBe(two)
      expect(await add('three', store)).toBe(one)
      const successor = await store.transaction('read', (tx) =>
        store.certificates.successorOf(tx, amidOf('old')),
      )
      expect(successor).toBe(one)
    })
  })
}

onBothEngines((engine, open, again) =>
  contract(
    `${engine} certificates store`,
    open,
    // Another connection of this process would block the one event loop both need.
    engine === 'SQLite' ? (first) => Promise.resolve(first) : again,
  ),
)
