/**
 * The port: HTTP or HTTPS, every TCP connection through the guard before anything of it is read.
 */
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { ListenerTls } from '@agentmesh/sdk/hosting'
import type { SocketGuard } from './socket-guard.ts'

/** @param tls undefined: without */
export function createListener(
  guard: SocketGuard,
  tls: ListenerTls | undefined,
  onRequest: RequestListener,
): Server {
  if (tls === undefined) {
    return createServer(onRequest).on('connection', (socket: Socket) => guard.admit(socket))
  }
  const server = createTlsServer(tls.options, onRequest)
  tls.attach(server)
  // A TLS socket does not say on which TCP socket it stands; while that is open, no other has its address and port.
  const handshakes = new Map<string, Socket>()
  server.on('connection', (socket: Socket) => {
    guard.admit(socket)
    const name = endpoint(socket)
    handshakes.set(name, socket)
    socket.once('close', () => handshakes.delete(name))
  })
  server.on('secureConnection', (socket) => {
    const over = handshakes.get(endpoint(socket))
    if (over === undefined) socket.destroy()
    else guard.secure(socket, over)
  })
  return server
}

function endpoint({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

/** Resolves with the port. Rejects when it cannot be had. */
export async function listen(server: Server, host: string, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return (server.address() as AddressInfo).port
}
