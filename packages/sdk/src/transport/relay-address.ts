/**
 * Which addresses a stranger may have us call (spec/relay.md 2). A registry record names its agent's home relay, and who
 * signs the record chooses what it says: a loopback service of this machine, a router in this network, a cloud's metadata
 * address. So what a record names is dialled only
 *
 *   by `wss:`, without credentials, query or fragment, at a path that ends as a relay's does, and
 *   when the address it resolves to is public, or of a kind that the owner's own relays are on.
 *
 * `ws:` is for relays of the owner's own kind of network, where the owner dials one so as well. The name is resolved once,
 * by the connection itself, and the address it connects to is the one that was judged: an answer that changes between two
 * look-ups gains nothing.
 */
import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { AgentMeshError, RELAY_PATH } from '../wire/index.ts'
import { relayUrl } from './relay-url.ts'

/** `never`: no relay can be there (multicast, reserved, documentation, addresses that carry another one). */
export type AddressKind = 'public' | 'loopback' | 'private' | 'link-local' | 'never'

const RANGES: Record<Exclude<AddressKind, 'public'>, readonly string[]> = {
  loopback: ['127.0.0.0/8', '::1/128'],
  // 100.64/10 is shared by a provider's customers (RFC 6598), fc00::/7 is unique local (RFC 4193).
  private: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'],
  'link-local': ['169.254.0.0/16', 'fe80::/10'],
  // The special-purpose registries of RFC 6890, as far as they are not above.
  never: [
    '0.0.0.0/8',
    '192.0.0.0/24',
    '192.0.2.0/24',
    '192.88.99.0/24',
    '198.18.0.0/15',
    '198.51.100.0/24',
    '203.0.113.0/24',
    '224.0.0.0/4',
    '240.0.0.0/4',
    '::/128',
    '64:ff9b:1::/48',
    '100::/64',
    '2001::/23',
    '2001:db8::/32',
    '2002::/16',
    'fec0::/10',
    'ff00::/8',
  ],
}

const LISTS = Object.entries(RANGES).map(([kind, ranges]) => {
  const list = new BlockList()
  for (const range of ranges) {
    const [network = '', bits] = range.split('/')
    list.addSubnet(network, Number(bits), network.includes(':') ? 'ipv6' : 'ipv4')
  }
  return [kind as AddressKind, list] as const
})

/** The kind of an IP address in text; `never` for what is none. IPv6 that carries an IPv4 address counts as that one. */
export function addressKind(text: string): AddressKind {
  const address = text.replace(/^\[|\]$/g, '').replace(/%.*$/, '')
  const family = isIP(address)
  if (family === 0) return 'never'
  const inner = family === 6 ? carriedIpv4(address) : undefined
  if (inner !== undefined) return addressKind(inner)
  const found = LISTS.find(([, list]) => list.check(address, family === 6 ? 'ipv6' : 'ipv4'))
  return found?.[0] ?? 'public'
}

/** ::ffff:0:0/96 (mapped), ::/96 (compatible) and 64:ff9b::/96 (NAT64, RFC 6052) end in the IPv4 address they lead to. */
function carriedIpv4(address: string): string | undefined {
  // The URL parser writes every IPv6 address in one form, all in hexadecimal.
  const { hostname } = new URL(`http://[${address}]/`)
  const match = /^\[(?:::ffff:|::|64:ff9b::)([0-9a-f]{1,4}):([0-9a-f]{1,4})\]$/.exec(hostname)
  if (!match) return undefined
  const [high = 0, low = 0] = match.slice(1).map((group) => parseInt(group, 16))
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

/** The kind of network a URL names by itself; undefined when its name has to be resolved first. */
export function namedKind(url: URL): AddressKind | undefined {
  if (url.hostname === 'localhost' || url.hostname.endsWith('.localhost')) return 'loopback'
  return isIP(url.hostname.replace(/^\[|\]$/g, '')) === 0 ? undefined : addressKind(url.hostname)
}

/** What the owner's own relays allow those of others to be. */
export interface OwnKinds {
  /** Kinds of addresses beside the public ones. */
  readonly kinds: ReadonlySet<AddressKind>
  /** One of them is dialled by `ws:`. */
  readonly plain: boolean
}

function forbidden(url: URL, why: string): AgentMeshError {
  return new AgentMeshError('RELAY_FORBIDDEN', `${url.host}: ${why}`, { operation: 'dial a relay' })
}

/**
 * Checks what a record names, as far as it can be told without resolving a name.
 *
 * @returns the URL in its normal form
 * @throws MALFORMED, RELAY_FORBIDDEN
 */
export function checkPeerRelay(text: string, own: OwnKinds): string {
  const url = relayUrl(text)
  if (url.username !== '' || url.password !== '') throw forbidden(url, 'it carries credentials')
  if (url.search !== '' || url.hash !== '') throw forbidden(url, 'it has a query or a fragment')
  if (!url.pathname.endsWith(RELAY_PATH)) throw forbidden(url, `its path does not end in ${RELAY_PATH}`)
  const kind = namedKind(url)
  if (kind !== undefined) checkAddress(url, kind, own)
  if (url.protocol === 'ws:' && !own.plain) throw forbidden(url, 'it is not wss:')
  return url.href
}

/** @throws RELAY_FORBIDDEN */
function checkAddress(url: URL, kind: AddressKind, { kinds }: OwnKinds): void {
  if (kind === 'never' || (kind !== 'public' && !kinds.has(kind))) {
    throw forbidden(url, `its address is ${kind === 'never' ? 'not one of a relay' : kind}`)
  }
  if (kind === 'public' && url.protocol === 'ws:') throw forbidden(url, 'it is not wss:')
}

/**
 * How the name of a peer's relay is resolved: to those of its addresses that may be dialled.
 *
 * @param lookup `dns.lookup` unless a test resolves by itself
 */
export function guardedLookup(
  href: string,
  own: OwnKinds,
  lookup: typeof systemLookup = systemLookup,
): LookupFunction {
  const url = new URL(href)
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, '')
      let refusal: Error = forbidden(url, 'it has no address')
      const allowed: LookupAddress[] = []
      for (const found of addresses) {
        try {
          checkAddress(url, addressKind(found.address), own)
          allowed.push(found)
        } catch (cause) {
          refusal = cause as Error
        }
      }
      const [first] = allowed
      if (first === undefined) callback(refusal, '')
      else if (options.all === true) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }
}
