/** Who is in an organisation: agents whose owners joined it, and nobody whom it or a registry put there. */
import { join } from 'node:path'
import { type Agent, readAuditLog } from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import {
  certificateFromText,
  certificateText,
  Home,
  issueAgent,
  newSerial,
  noteJoined,
  openIdentity,
  parseCertificate,
} from '@agentmesh/sdk/identity'
import type { Amid } from '@agentmesh/sdk/wire'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { CertifiedNetwork, refreshed } from '../support/certified-network.ts'

const DAY = 86_400_000
const NAME = 'Evil (evil.example)'
let network: CertifiedNetwork
let evil: Agent
let certificate: string

beforeAll(async () => {
  network = await CertifiedNetwork.start()
  evil = await network.agent('evil')
  certificate = await network.registry.verifyOrganization(evil.amid, 'evil.example', 'Evil')
})
afterAll(() => network.close())

const identityOf = (agent: Agent) => openIdentity(Home.open(agent.home))
const clientOf = (agent: Agent) => {
  const client = new HttpRegistryClient(network.registry.registry.url, identityOf(agent), {
    now: Date.now,
    random: systemRandom,
  })
  network.closeFirst(() => Promise.resolve(client.close()))
  return client
}
const record = (amid: Amid) => clientOf(evil).lookup(amid)
const events = (agent: Agent, ...names: string[]) =>
  [...readAuditLog(join(agent.home, 'logs'))].filter(({ event }) => names.includes(event))
const noticesOf = (agent: Agent) => {
  const texts: string[] = []
  agent.events.on('notice', ({ about, text }) => {
    if (about === 'organization') texts.push(text)
  })
  return texts
}

/** What the organisation makes of a key that it read in a record. */
function certify(agent: Agent): string[] {
  const now = Date.now()
  const der = issueAgent(
    {
      serial: newSerial(systemRandom),
      notBefore: now - 1000,
      notAfter: now + 30 * DAY,
      publicKey: identityOf(agent).signing.publicKey,
      displayName: 'Scam bot',
    },
    { certificate: certificateFromText(certificate), signing: identityOf(evil).signing },
  )
  return [certificateText(parseCertificate(der)), certificate]
}

describe('an organization that certifies an agent which did not agree', () => {
  test('changes nothing', async () => {
    const victim = await network.agent('victim')
    const told = noticesOf(victim)
    await network.registry.verify(victim, 'Vera')
    const before = await record(victim.amid)
    expect(before).toMatchObject({ tier: 1, verified_name: 'Vera' })
    const chain = certify(victim)
    await expect(clientOf(evil).submitCertificate(chain)).rejects.toMatchObject({ code: 'NOT_OWNER' })
    await victim.trust.refresh()
    expect(await record(victim.amid)).toEqual(before)
    expect(victim.status().trust).toMatchObject({ tier: 'verified', display_name: 'Vera' })
    expect(told).toEqual([])
  })

  test('changes nothing at the agent when the registry is in it, and its owner is told once', async () => {
    const victim = await network.agent('second victim')
    const told = noticesOf(victim)
    await network.registry.verify(victim, 'Wanda')
    await network.registry.plantMember(certify(victim))
    expect(await record(victim.amid)).toMatchObject({ tier: 1.5, organization: NAME })
    await victim.trust.refresh()
    await victim.trust.refresh()
    expect(victim.status().trust).toMatchObject({ tier: 'verified', display_name: 'Wanda' })
    expect(events(victim, 'organization_refused', 'organization_joined')).toMatchObject([
      { event: 'organization_refused', organization: NAME, amid: evil.amid },
    ])
    expect(told).toEqual([expect.stringContaining(`${NAME} certified this agent`)])
  })
})

describe('an agent that an organization brought in before agents were asked', () => {
  test('stands as without it, and as its member again once it agrees', async () => {
    const taken = await network.agent('taken')
    const chain = certify(taken)
    await network.registry.plantMember(chain)
    expect(await record(taken.amid)).toMatchObject({ tier: 1.5, organization: NAME })
    await network.registry.forgetAgreements()
    await network.registry.restart(() => undefined)
    // Until connections of before are found broken.
    await expect.poll(() => refreshed(async () => void (await record(taken.amid)))).toBe(true)
    const after = await record(taken.amid)
    expect(after.tier).toBe(2)
    expect(after).not.toHaveProperty('organization')
    await expect(clientOf(taken).agentCertificate()).rejects.toMatchObject({ code: 'NOT_VERIFIED' })
    await clientOf(taken).submitCertificate(chain)
    expect(await record(taken.amid)).toMatchObject({ tier: 1.5, organization: NAME })
  })
})

describe('an agent whose owner joined', () => {
  test('is a member, and no more once the home does not say so', async () => {
    const member = await network.agent('member')
    const told = noticesOf(member)
    const chain = certify(member)
    noteJoined(Home.open(member.home), certificateFromText(certificate), Date.now())
    await clientOf(member).submitCertificate(chain)
    await member.trust.refresh()
    await member.trust.refresh()
    expect(member.status().trust).toMatchObject({ tier: 'organization', organization: NAME })
    expect(events(member, 'organization_joined')).toMatchObject([{ organization: NAME, amid: evil.amid }])
    expect(told).toHaveLength(1)

    // As of a home whose daemon took it before it asked the owner.
    Home.open(member.home).writeFile('joined.json', Buffer.from('{"version":1,"organizations":[]}'))
    await member.trust.refresh()
    expect(member.status().trust).not.toHaveProperty('organization')
    expect(events(member, 'organization_refused')).toHaveLength(1)
  })
})
