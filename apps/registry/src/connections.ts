/**
 * TCP connections before anything is read of them: so many altogether, and so many of one address, so that one machine which
 * holds connections open leaves room for all others. What its proxies connect is the operator's own, and counts only
 * altogether.
 *
 * How long a connection may take is the HTTP server's to hold: `requestTimeoutMs` for what comes in, from the first byte or,
 * where none comes, from the connection on; `idleTimeoutMs` for answers that nobody reads.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { addressKey, type TrustedAddresses } from '@agentmesh/sdk/hosting'
import type { RegistryLimits } from './limits.ts'
import type { RegistryMetrics } from './metrics.ts'

export function limitConnections(
  server: Server,
  limits: Pick<RegistryLimits, 'maxConnections' | 'maxConnectionsPerIp'>,
  proxies: TrustedAddresses,
  metrics: RegistryMetrics,
): void {
  const openByAddress = new Map<string, number>()
  let open = 0
  metrics.watchConnections(() => open)
  server.maxConnections = limits.maxConnections
  server.on('drop', () => metrics.connectionRefused())
  server.on('connection', (socket: Socket) => {
    const address = addressKey(socket.remoteAddress)
    const before = openByAddress.get(address) ?? 0
    if (before >= limits.maxConnectionsPerIp && !proxies.has(socket.remoteAddress ?? '')) {
      metrics.connectionRefused()
      socket.destroy()
      return
    }
    open += 1
    openByAddress.set(address, before + 1)
    socket.once('close', () => {
      open -= 1
      const left = (openByAddress.get(address) ?? 1) - 1
      if (left === 0) openByAddress.delete(address)
      else openByAddress.set(address, left)
    })
  })
}
