/** A port for operators only: health and metrics away from the one that the world reaches. Plain HTTP, without limits. */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface OperatorPort {
  readonly port: number
  close(): Promise<void>
}

/**
 * @param address `host:port`; port 0 takes a free one
 * @throws system errors when the port cannot be had
 */
export async function openOperatorPort(address: string, listener: RequestListener): Promise<OperatorPort> {
  const { host, port } = splitAddress(address)
  const server = createServer(listener)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** @throws Error for what is no `host:port` */
export function splitAddress(address: string): { host: string; port: number } {
  const [, bracketed, plain, port = ''] =
    /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(address) ?? []
  const host = bracketed ?? plain
  if (host === undefined || Number(port) > 65_535) throw new Error(`${address} is no host:port`)
  return { host, port: Number(port) }
}
