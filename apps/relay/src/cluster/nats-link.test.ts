/** The link on a real nats-server, which is killed, cut off and frozen. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { utf8Bytes, utf8Text } from '@agentmesh/sdk/wire'
import { silentLogger } from '../logger.ts'
import { freePort, natsMissing, TcpProxy, TestNats } from '../test-support-nats.ts'
import { newInstanceId } from './cluster-wire.ts'
import type { ClusterLink } from './link.ts'
import { natsLink } from './nats-link.ts'
import { natsOptions } from './nats-url.ts'

/** A link that writes down what happens to it. */
class Listener {
  readonly instance = newInstanceId(systemRandom)
  readonly events: string[] = []
  readonly link: ClusterLink
  #wake: () => void = () => {}

  constructor(url: string) {
    const happened = (event: string) => {
      this.events.push(event)
      this.#wake()
    }
    this.link = natsLink(url, silentLogger)(this.instance, {
      onUp: () => happened('up'),
      onDown: () => happened('down'),
      onMessage: (data) => happened(utf8Text(data)),
      onAbsent: (instance) => happened(`absent ${instance}`),
    })
  }

  async hears(...events: string[]): Promise<void> {
    while (!events.every((event) => this.events.includes(event))) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  forget(): void {
    this.events.length = 0
  }
}

describe('natsOptions', () => {
  it('takes servers, credentials and TLS out of the URL', () => {
    expect(natsOptions('nats://n1:4222')).toEqual({ servers: ['n1:4222'] })
    expect(natsOptions('nats://relay:p%40ss@n1:4222, nats://n2')).toEqual({
      servers: ['n1:4222', 'n2'],
      user: 'relay',
      pass: 'p@ss',
    })
    expect(natsOptions('tls://s3cret@[::1]:4222')).toEqual({
      servers: ['[::1]:4222'],
      tls: {},
      token: 's3cret',
    })
  })

  it.each(['', 'n1:4222', 'http://n1', 'nats://', 'nats://n1,tls://n2', 'nats://user:secret@'])(
    'refuses %j without repeating it',
    (url) => {
      expect(() => natsOptions(url)).toThrow(expect.objectContaining({ code: 'MALFORMED' }))
      expect(() => natsOptions(url)).not.toThrow(/secret/)
    },
  )
})

describe.skipIf(natsMissing)('NatsLink (needs nats-server)', () => {
  let nats: TestNats
  const open: Listener[] = []
  const listener = (url = nats.url) => {
    const made = new Listener(url)
    open.push(made)
    return made
  }
  const pair = async (url?: string) => {
    const both = [listener(), listener(url)] as const
    await Promise.all(both.map(async (each) => each.hears('up')))
    return both
  }

  beforeAll(async () => {
    nats = await TestNats.start()
  })
  afterAll(async () => {
    await Promise.all(open.map(async ({ link }) => link.close()))
    await nats.kill()
  })

  it('carries to all others and to one, in order, and not back to who said it', async () => {
    const [a, b] = await pair()
    const c = listener()
    await c.hears('up')
    a.link.broadcast('presence', utf8Bytes('to all'))
    a.link.tell(b.instance, utf8Bytes('to b'))
    a.link.broadcast('mail', utf8Bytes('mail'))
    await b.hears('to all', 'to b', 'mail')
    await c.hears('to all', 'mail')
    expect(b.events).toEqual(['up', 'to all', 'to b', 'mail'])
    expect([a.events, c.events]).toEqual([['up'], ['up', 'to all', 'mail']])
  })

  it('says that nobody is there', async () => {
    const [a, b] = await pair()
    await b.link.close()
    // NATS may still take it for b when b has hung up already.
    const told = () => {
      a.link.tell(b.instance, utf8Bytes('too late'))
      return a.events
    }
    await expect.poll(told).toContain(`absent ${b.instance}`)
    expect(b.events).not.toContain('too late')
  })

  it('goes down with NATS, says nothing meanwhile, and comes up with it', async () => {
    const [a, b] = await pair()
    await nats.kill()
    await Promise.all([a.hears('down'), b.hears('down')])
    expect(a.link.up).toBe(false)
    a.link.tell(b.instance, utf8Bytes('into the void'))
    a.forget()
    b.forget()
    const late = listener()
    await nats.start()
    await Promise.all([a.hears('up'), b.hears('up'), late.hears('up')])
    a.link.tell(b.instance, utf8Bytes('again'))
    b.link.tell(late.instance, utf8Bytes('welcome'))
    await Promise.all([b.hears('again'), late.hears('welcome')])
    expect(b.events).not.toContain('into the void')
  })

  it('notices a connection that carries nothing any more, and makes another one', async () => {
    const proxy = await TcpProxy.start(() => nats.port)
    const [a, b] = await pair(`nats://127.0.0.1:${proxy.port}`)
    proxy.freeze()
    await b.hears('down')
    b.forget()
    proxy.heal()
    await b.hears('up')
    a.link.tell(b.instance, utf8Bytes('there again'))
    await b.hears('there again')
    expect(b.link.up).toBe(true)
    await b.link.close()
    await proxy.close()
  })

  it('can be closed before it was ever up', async () => {
    const lonely = listener(`nats://127.0.0.1:${await freePort()}`)
    await lonely.link.close()
    expect(lonely.events).toEqual([])
  })

  it('waits for a server that refuses its password to be put right', async () => {
    const locked = await TestNats.start('--user', 'relay', '--pass', 'right')
    const [wrong, right] = ['wrong', 'right'].map((pass) =>
      listener(`nats://relay:${pass}@127.0.0.1:${locked.port}`),
    )
    await right!.hears('up')
    expect(wrong!.events).toEqual([])
    await Promise.all([wrong!.link.close(), right!.link.close()])
    await locked.kill()
  })
})
