/** Under which addresses a registry is reached, as HTTP clients write them. */
import { isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { AgentMeshError } from '@agentmesh/sdk/wire'

/** @throws MALFORMED */
export function parsePublicUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '') {
    throw new AgentMeshError('MALFORMED', 'The public URL must be http(s)://host[:port]', {
      operation: 'start registry',
    })
  }
  return url
}

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/** The `Host` values by which a server listening there is reached. */
export function localAuthorities(host: string, port: number, standardPort: number): string[] {
  const loopback = ['127.0.0.1', 'localhost', '::1']
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  const hosts = isWildcard(host)
    ? [...loopback, ...addresses.map(({ address }) => address)]
    : loopback.includes(host)
      ? loopback
      : [host]
  return hosts.map((name) => authorityOf(name, port, standardPort))
}

/** As an HTTP client writes it: IPv6 in brackets, the default port left out. */
export function authorityOf(host: string, port: number, standardPort: number): string {
  const name = (isIPv6(host) ? `[${host}]` : host).toLowerCase()
  return port === standardPort ? name : `${name}:${port}`
}
