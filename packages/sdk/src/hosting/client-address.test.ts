/** Clients behind proxies: who is counted, and who cannot make somebody else be counted. */
import { describe, expect, test } from 'vitest'
import { addressKey, addressNetwork, clientAddress, TrustedAddresses } from './client-address.ts'

const trusted = new TrustedAddresses(['127.0.0.1', '10.0.0.0/8', 'fd00::/8'])

describe('clientAddress', () => {
  test.each([
    ['no proxy, no header', '198.51.100.7', undefined, '198.51.100.7'],
    ['a header from a stranger means nothing', '198.51.100.7', '203.0.113.9', '198.51.100.7'],
    ['a trusted proxy names its client', '10.0.0.2', '198.51.100.7', '198.51.100.7'],
    [
      'what the client itself wrote stands left of that',
      '10.0.0.2',
      '203.0.113.9, 198.51.100.7',
      '198.51.100.7',
    ],
    ['two proxies', '127.0.0.1', '203.0.113.9, 198.51.100.7, 10.0.0.2', '198.51.100.7'],
    [
      'a client that claims to be a proxy',
      '127.0.0.1',
      '203.0.113.9, 10.9.9.9, 198.51.100.7, 10.0.0.2',
      '198.51.100.7',
    ],
    ['only proxies: the farthest', '127.0.0.1', '10.0.0.3,10.0.0.2', '10.0.0.3'],
    ['a proxy that names nobody', '10.0.0.2', undefined, '10.0.0.2'],
    ['a proxy that names nonsense', '10.0.0.2', '198.51.100.7, unknown', '10.0.0.2'],
    ['an empty last entry', '10.0.0.2', '198.51.100.7,', '10.0.0.2'],
    ['IPv4 as an IPv6 socket writes it', '::ffff:10.0.0.2', '198.51.100.7', '198.51.100.7'],
    ['IPv6 behind IPv6', 'fd00::2', '2001:db8::7', '2001:db8::7'],
    ['with a port', '10.0.0.2', '198.51.100.7:5678', '198.51.100.7'],
    ['IPv6 with a port', '10.0.0.2', '[2001:db8::7]:5678', '2001:db8::7'],
  ])('%s', (_name, remote, header, client) => {
    expect(clientAddress(remote, header, trusted)).toBe(client)
  })

  test('a header of a thousand proxies is read no further than the nearest sixteen', () => {
    const header = ['198.51.100.7', ...Array.from({ length: 1_000 }, () => '10.0.0.9')].join(',')
    expect(clientAddress('10.0.0.2', header, trusted)).toBe('10.0.0.9')
  })
})

test.each(['10.0.0.0/33', 'fd00::/129', '10.0.0.0/8/8', 'proxy.example', '', '10.0.0.0/-1', '10.0.0.0/'])(
  'refuses to trust %j',
  (entry) => {
    expect(() => new TrustedAddresses([entry])).toThrow(/is no IP address|too long a prefix/)
  },
)

test.each([
  ['203.0.113.7', '203.0.113.7', '203.0.113.0/24'],
  ['::ffff:203.0.113.7', '203.0.113.7', '203.0.113.0/24'],
  ['2001:db8:0:1:aaaa::1', '2001:db8:0:1::/64', '2001:db8:0::/48'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64', '2001:db8:1::/48'],
  ['2001:0DB8::5', '2001:db8:0:0::/64', '2001:db8:0::/48'],
  ['2001:db8::1:2:3:4:5', '2001:db8:0:1::/64', '2001:db8:0::/48'],
  ['::1', '0:0:0:0::/64', '0:0:0::/48'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64', 'fe80:0:0::/48'],
  [undefined, 'unknown', 'unknown'],
])('counts %s under %s and logs %s', (address, key, network) => {
  expect(addressKey(address)).toBe(key)
  expect(addressNetwork(address)).toBe(network)
  expect(addressNetwork(addressKey(address))).toBe(network)
})
