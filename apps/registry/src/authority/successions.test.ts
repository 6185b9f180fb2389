import { afterEach, beforeEach, expect, it } from 'vitest'
import { ed25519KeyPair, sha256 } from '@agentmesh/sdk/crypto/signing'
import { signSuccession } from '@agentmesh/sdk/identity'
import { formatKey, utf8Bytes } from '@agentmesh/sdk/wire'
import { call, NOW, TestAgent, type Reply } from '../test-support.ts'
import { CertifyingRegistry } from '../test-support-authority.ts'

let now: number
let registry: CertifyingRegistry
let old: TestAgent
let heir: TestAgent
const recovery = ed25519KeyPair(sha256(utf8Bytes('recovery')))
const named = (pair: typeof recovery) => ({ recovery_public_key: formatKey('ed25519', pair.publicKey) })
const agent = (name: string) => new TestAgent(name, registry.registry.url, () => now)
const lookup = async (amid: string) => (await call(`${registry.url}/lookup?amid=${amid}`)).body
const verify = (who: TestAgent, person = 'person') =>
  registry.certification.authority.verifyAgent(
    {
      amid: who.amid,
      publicKey: who.identity.signing.publicKey,
      tier: 1,
      displayName: 'Alice A.',
      human: sha256(utf8Bytes(person)),
    },
    now,
  )
const bring = (by: TestAgent, from = old, to = heir, key = recovery, at = now): Promise<Reply> =>
  by.send({
    method: 'POST',
    path: '/v1/registry/successions',
    body: signSuccession(key, from.amid, to.amid, at),
  })

beforeEach(async () => {
  now = NOW
  registry = await CertifyingRegistry.start(() => now)
  old = agent('old')
  heir = agent('heir')
  await old.register(named(recovery))
  await heir.register()
})
afterEach(async () => {
  await registry.close()
})

it('moves what was verified to the new AMID and revokes the old one’s certificates', async () => {
  const { chain } = await verify(old)
  const moved = await bring(heir)
  expect([moved.status, moved.body.revoked]).toEqual([200, 1])
  expect(await registry.judge(chain, old.amid)).toMatchObject({ valid: false, revocation: 'revoked' })
  expect(await registry.judge(moved.body.certified.chain, heir.amid)).toMatchObject({
    valid: true,
    tier: 1,
    displayName: 'Alice A.',
  })
  expect(await lookup(old.amid)).toMatchObject({ tier: 2 })
  expect(await lookup(heir.amid)).toMatchObject({ tier: 1, verified_name: 'Alice A.' })
})

it('counts the successor in the place of the old agent, not beside it', async () => {
  const others = Array.from({ length: 9 }, (_, index) => agent(`other${index}`))
  for (const one of [...others, old]) {
    if (one !== old) await one.register()
    await verify(one)
  }
  expect((await bring(heir)).status).toBe(200)
})

it('answers the same statement again without revoking anything', async () => {
  await verify(old)
  const first = await bring(heir)
  now += 1000
  const again = await bring(heir, old, heir, recovery, NOW)
  expect([again.status, again.body.revoked]).toEqual([200, 0])
  expect(again.body.certified.chain).toEqual(first.body.certified.chain)
})

it('takes one successor when two come at once, and never another', async () => {
  await verify(old)
  const rival = agent('rival')
  await rival.register()
  const replies = await Promise.all([bring(heir), bring(rival, old, rival)])
  expect(replies.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409])
  const tiers: number[] = [(await lookup(heir.amid)).tier, (await lookup(rival.amid)).tier]
  expect(tiers.toSorted((a: number, b: number) => a - b)).toEqual([1, 2])
})

it('keeps the old agent from being verified again', async () => {
  await verify(old)
  await bring(heir)
  await expect(verify(old)).rejects.toMatchObject({ code: 'AMID_SUCCEEDED' })
})

it('refuses a circle', async () => {
  await heir.register({ sequence: 2, ...named(recovery) })
  await verify(old)
  expect((await bring(heir)).status).toBe(200)
  const back = await bring(old, heir, old)
  expect([back.status, back.body.code]).toEqual([403, 'AMID_SUCCEEDED'])
})

it('refuses a statement that somebody else brings, or that another key signed', async () => {
  await verify(old)
  const stranger = agent('stranger')
  await stranger.register()
  expect((await bring(stranger)).body.code).toBe('NOT_OWNER')
  expect((await bring(old)).body.code).toBe('NOT_OWNER')
  const forged = await bring(heir, old, heir, ed25519KeyPair(sha256(utf8Bytes('thief'))))
  expect([forged.status, forged.body.code]).toEqual([401, 'INVALID_SIGNATURE'])
  expect(await lookup(old.amid)).toMatchObject({ tier: 1 })
})

it('believes the recovery key that was named first, not the one a thief named later', async () => {
  await verify(old)
  const thief = ed25519KeyPair(sha256(utf8Bytes('thief')))
  expect((await old.register({ sequence: 2, ...named(thief) })).status).toBe(200)
  expect((await bring(heir, old, heir, thief)).body.code).toBe('INVALID_SIGNATURE')
  expect((await bring(heir)).status).toBe(200)
})

it('refuses agents that named no recovery key, or that nobody knows', async () => {
  const bare = agent('bare')
  await bare.register()
  await verify(bare)
  const refused = await bring(heir, bare)
  expect([refused.status, refused.body.code]).toEqual([409, 'SUCCESSION_REFUSED'])
  const unknown = await bring(heir, agent('unknown'))
  expect([unknown.status, unknown.body.code]).toEqual([404, 'AGENT_NOT_FOUND'])
  const homeless = agent('homeless')
  expect((await bring(homeless, old, homeless)).body.code).toBe('NOT_REGISTERED')
})

it('refuses a successor who is verified as somebody else', async () => {
  await verify(old)
  await verify(heir, 'another person')
  const refused = await bring(heir)
  expect([refused.status, refused.body.code]).toEqual([409, 'SUCCESSION_REFUSED'])
  expect(await lookup(old.amid)).toMatchObject({ tier: 1 })
})

const statementsOf = async (amid: string): Promise<{ old_amid: string; new_amid: string }[]> =>
  (await call(`${registry.url}/successions?amid=${amid}`)).body.successions

it('shows a statement to whoever asks about either AMID, and nothing about others', async () => {
  await bring(heir)
  const [shown] = await statementsOf(old.amid)
  expect(shown).toEqual(signSuccession(recovery, old.amid, heir.amid, now))
  expect(await statementsOf(heir.amid)).toEqual([shown])
  expect(await statementsOf(agent('other').amid)).toEqual([])
  expect((await call(`${registry.url}/successions?amid=x`)).status).toBe(400)
})

it('shows how a successor was succeeded itself: its own end first', async () => {
  const heirsKey = ed25519KeyPair(sha256(utf8Bytes('heir')))
  await heir.register({ sequence: 2, ...named(heirsKey) })
  await bring(heir)
  const third = agent('third')
  await third.register()
  expect((await bring(third, heir, third, heirsKey)).status).toBe(200)
  const chain = (await statementsOf(heir.amid)).map((one) => [one.old_amid, one.new_amid])
  expect(chain).toEqual([
    [heir.amid, third.amid],
    [old.amid, heir.amid],
  ])
  // The first recovery key has named its successor, and names no other.
  expect((await bring(third, old, third)).body.code).toBe('SUCCESSION_REFUSED')
})

it('refuses a statement about oneself', async () => {
  const own = { ...signSuccession(recovery, old.amid, heir.amid, now), new_amid: old.amid }
  const refused = await old.send({ method: 'POST', path: '/v1/registry/successions', body: own })
  expect(refused.status).toBeGreaterThanOrEqual(400)
  expect(await statementsOf(old.amid)).toEqual([])
})

it('is not stopped by a thief who deregisters the agent and registers it with a recovery key of his own', async () => {
  await verify(old)
  const thief = ed25519KeyPair(sha256(utf8Bytes('thief')))
  const remove = () => old.send({ method: 'DELETE', path: `/v1/registry/agents/${old.amid}` })
  expect((await remove()).status).toBe(204)
  await old.register({ sequence: 2, ...named(thief) })
  expect((await bring(heir, old, heir, thief)).body.code).toBe('INVALID_SIGNATURE')
  expect((await remove()).status).toBe(204)
  expect((await bring(heir)).status).toBe(200)
  expect(await statementsOf(old.amid)).toHaveLength(1)
})
