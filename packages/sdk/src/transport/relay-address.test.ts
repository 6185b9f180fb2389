/** What a stranger's record can have this agent call. */
import { describe, expect, it } from 'vitest'
import { isAgentMeshError } from '../wire/index.ts'
import {
  addressKind,
  checkPeerRelay,
  guardedLookup,
  type AddressKind,
  type OwnKinds,
} from './relay-address.ts'

const own = (kinds: AddressKind[] = [], plain = false): OwnKinds => ({ kinds: new Set(kinds), plain })

function outcome(work: () => unknown): unknown {
  try {
    return work()
  } catch (error) {
    if (isAgentMeshError(error)) return error.code
    throw error
  }
}

describe('the kind of an address', () => {
  it.each<[AddressKind, string[]]>([
    ['public', ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '64:ff9b::101:101', '2a00::1']],
    ['loopback', ['127.0.0.1', '127.255.255.254', '::1', '[::1]', '::ffff:127.0.0.1', '::ffff:7f00:1']],
    ['private', ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', 'fd00::1']],
    ['private', ['::ffff:10.0.0.1', '64:ff9b::a00:1', '::192.168.0.1']],
    ['link-local', ['169.254.169.254', 'fe80::1', 'fe80::1%eth0', '::ffff:169.254.169.254']],
    ['never', ['0.0.0.0', '224.0.0.1', '255.255.255.255', '192.0.2.1', '::', 'ff02::1', '2002:7f00:1::1']],
    ['never', ['2001:db8::1', '64:ff9b:1::1', '2001:0:4136:e378::1', 'example.org', '']],
  ])('is %s for %j', (kind, addresses) => {
    expect(addresses.map(addressKind)).toEqual(addresses.map(() => kind))
  })
})

describe('a record that names', () => {
  it('a relay by wss: is followed, with the path added', () => {
    expect(checkPeerRelay('wss://relay.example', own())).toBe('wss://relay.example/v1/connect')
    expect(checkPeerRelay('wss://example.org/mesh/v1/connect', own())).toBe(
      'wss://example.org/mesh/v1/connect',
    )
  })

  it.each([
    ['a service of this machine', 'wss://127.0.0.1/v1/connect'],
    ['this machine by name', 'wss://localhost/v1/connect'],
    ['this machine by another name', 'wss://a.localhost/v1/connect'],
    ['this machine in decimal', 'wss://2130706433/v1/connect'],
    ['this machine in octal', 'wss://0177.0.0.1/v1/connect'],
    ['this machine as IPv4 in IPv6', 'wss://[::ffff:127.0.0.1]/v1/connect'],
    ['this machine as nobody', 'wss://0.0.0.0/v1/connect'],
    ['a router of this network', 'wss://192.168.1.1/v1/connect'],
    ['the metadata of a cloud', 'wss://169.254.169.254/v1/connect'],
    ['the metadata of a cloud behind NAT64', 'wss://[64:ff9b::a9fe:a9fe]/v1/connect'],
    ['everybody in this network', 'wss://224.0.0.1/v1/connect'],
    ['a relay in clear', 'ws://relay.example/v1/connect'],
    ['credentials', 'wss://user:secret@relay.example/v1/connect'],
    ['a fragment', 'wss://relay.example/v1/connect#x'],
    ['a query', 'wss://relay.example/v1/connect?drop=all'],
    ['another path', 'wss://relay.example/admin/delete'],
  ])('%s is not followed', (_, endpoint) => {
    expect(outcome(() => checkPeerRelay(endpoint, own()))).toBe('RELAY_FORBIDDEN')
  })

  it('an address of the kind the own relays are on is followed, and of no other', () => {
    const home = own(['loopback'], true)
    expect(checkPeerRelay('ws://127.0.0.1:7801', home)).toBe('ws://127.0.0.1:7801/v1/connect')
    expect(checkPeerRelay('ws://localhost:7801', home)).toBe('ws://localhost:7801/v1/connect')
    expect(outcome(() => checkPeerRelay('ws://10.0.0.1', home))).toBe('RELAY_FORBIDDEN')
    expect(outcome(() => checkPeerRelay('ws://1.1.1.1', home))).toBe('RELAY_FORBIDDEN')
    expect(checkPeerRelay('wss://10.0.0.1', own(['private']))).toBe('wss://10.0.0.1/v1/connect')
    expect(outcome(() => checkPeerRelay('ws://10.0.0.1', own(['private'])))).toBe('RELAY_FORBIDDEN')
  })
})

describe('a name that resolves', () => {
  async function resolved(addresses: string[], kinds = own(), all = true): Promise<unknown> {
    const system = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
      done(
        null,
        addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
      )) as never
    const lookup = guardedLookup('wss://relay.example/v1/connect', kinds, system)
    return new Promise((resolve) => {
      lookup('relay.example', { all }, (error, found) =>
        resolve(isAgentMeshError(error) ? error.code : (error ?? found)),
      )
    })
  }

  it('to this machine, after it was public when the record was read, is not dialled', async () => {
    expect(await resolved(['127.0.0.1'])).toBe('RELAY_FORBIDDEN')
    expect(await resolved(['::ffff:10.0.0.1', 'fe80::1'])).toBe('RELAY_FORBIDDEN')
    expect(await resolved([])).toBe('RELAY_FORBIDDEN')
  })

  it('to a public address and one of this network is dialled at the public one only', async () => {
    expect(await resolved(['192.168.0.1', '1.1.1.1', '::1'])).toEqual([{ address: '1.1.1.1', family: 4 }])
    expect(await resolved(['192.168.0.1', '1.1.1.1'], own(), false)).toBe('1.1.1.1')
  })

  it('to the kind of address the own relays are on is dialled', async () => {
    expect(await resolved(['10.1.2.3'], own(['private']))).toEqual([{ address: '10.1.2.3', family: 4 }])
    expect(await resolved(['127.0.0.1'], own(['private']))).toBe('RELAY_FORBIDDEN')
  })
})
