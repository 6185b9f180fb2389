/**
 * Which client a connection is counted under. Behind a proxy that is the address the proxy names in X-Forwarded-For; a header
 * that comes from anybody else is a stranger's word and means nothing.
 *
 *     client, by whom it was added ...           spoofed, 198.51.100.7, 10.0.0.2        (right is nearest)
 *     read from the right while the one who added it is trusted: 10.0.0.2 -> 198.51.100.7, and there it ends
 */
import { BlockList, isIP, isIPv6 } from 'node:net'

/** More proxies than anybody has in a row; what stands further left is not looked at. */
const MAX_HOPS = 16

/** Addresses and networks (`10.0.0.0/8`, `fd00::/8`). */
export class TrustedAddresses {
  readonly #list = new BlockList()
  readonly #none: boolean

  /** @throws Error naming the entry that is neither an IP address nor a network of them */
  constructor(entries: readonly string[]) {
    this.#none = entries.length === 0
    for (const entry of entries) {
      const [address = '', prefix] = entry.split('/', 2)
      const family = isIP(address)
      const bits = prefix === undefined ? undefined : Number(prefix)
      if (
        family === 0 ||
        entry.split('/').length > 2 ||
        (prefix !== undefined && !/^\d{1,3}$/.test(prefix))
      ) {
        throw new Error(`${entry} is no IP address and no network such as 10.0.0.0/8`)
      }
      if (bits !== undefined && bits > (family === 6 ? 128 : 32)) {
        throw new Error(`${entry} has too long a prefix`)
      }
      if (bits === undefined) this.#list.addAddress(address, family === 6 ? 'ipv6' : 'ipv4')
      else this.#list.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4')
    }
  }

  has(address: string): boolean {
    if (this.#none) return false
    const plain = unmapped(address)
    const family = isIP(plain)
    return family !== 0 && this.#list.check(plain, family === 6 ? 'ipv6' : 'ipv4')
  }
}

/**
 * The address nearest to us that is not a trusted proxy's; the farthest one when all are.
 *
 * @param remote the other end of the connection
 * @param forwardedFor every X-Forwarded-For value, joined by commas as `node:http` does
 */
export function clientAddress(
  remote: string,
  forwardedFor: string | undefined,
  trusted: TrustedAddresses,
): string {
  let client = remote
  const hops = (forwardedFor ?? '').split(',').slice(-MAX_HOPS)
  while (trusted.has(client)) {
    const next = hopAddress(hops.pop())
    if (next === undefined) break
    client = next
  }
  return client
}

/** One entry of the header, which some proxies write with a port; undefined when it is no address. */
function hopAddress(entry: string | undefined): string | undefined {
  const text = entry?.trim() ?? ''
  const bare = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(text)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(text)?.[1] ?? text
  return isIP(bare) === 0 ? undefined : bare
}

/** The key that limits by address count under: an IPv4 address, or the /64 an IPv6 host can pick addresses from. */
export function addressKey(address: string | undefined): string {
  if (address === undefined) return 'unknown'
  const plain = unmapped(address)
  const groups = ipv6Groups(plain)
  return groups === undefined ? plain : `${groups.slice(0, 4).join(':')}::/64`
}

/** For logs: the network, `203.0.113.0/24` or `2001:db8:1::/48`, of an address or of a key of `addressKey`. */
export function addressNetwork(address: string | undefined): string {
  if (address === undefined) return 'unknown'
  const plain = unmapped(address.replace(/\/64$/, ''))
  const groups = ipv6Groups(plain)
  if (groups !== undefined) return `${groups.slice(0, 3).join(':')}::/48`
  return isIP(plain) === 4 ? plain.replace(/\d+$/, '0/24') : 'unknown'
}

/** An IPv4 address that an IPv6 socket wrote as its own. */
function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address.split('%', 1)[0] ?? ''
}

function ipv6Groups(address: string): string[] | undefined {
  if (!isIPv6(address)) return undefined
  const [head = '', tail] = address.split('::', 2)
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':')
    while (groups.length + after.length < 8) groups.push('0')
    groups.push(...after)
  }
  return groups.map((group) => group.toLowerCase().replace(/^0+(?=.)/, ''))
}
