/**
 * A program that stands between agents and a relay and writes down every byte, as whoever runs the network could.
 *
 *     node recording-proxy.js FILE      prints {"port":N}, reads {"port":N} of the relay from stdin, then carries
 *
 * The file is a row of records: connection u32 BE | direction u8 (0 agent to relay, 1 relay to agent) | length u32 BE |
 * bytes. SIGTERM ends it; the file is complete then.
 */
import { once } from 'node:events'
import { closeSync, openSync, writeSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

const HOST = '127.0.0.1'
const HEAD_BYTES = 9

const file = openSync(process.argv[2] ?? '', 'wx', 0o600)
const sockets = new Set<Socket>()
let connections = 0

function record(connection: number, direction: 0 | 1, bytes: Buffer): void {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32BE(connection, 0)
  head.writeUInt8(direction, 4)
  head.writeUInt32BE(bytes.length, 5)
  writeSync(file, Buffer.concat([head, bytes]))
}

function carry(from: Socket, to: Socket, connection: number, direction: 0 | 1): void {
  sockets.add(from)
  from.on('data', (chunk: Buffer) => {
    record(connection, direction, chunk)
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
  from.on('error', () => to.destroy())
  from.on('close', () => {
    sockets.delete(from)
    to.destroy()
  })
}

const lines = createInterface({ input: process.stdin })
const relay = once(lines, 'line').then(([line]) => (JSON.parse(String(line)) as { port: number }).port)
const server = createServer((agentSide) => {
  agentSide.pause()
  void join(agentSide, ++connections)
})

async function join(agentSide: Socket, connection: number): Promise<void> {
  const relaySide = connect(await relay, HOST)
  carry(agentSide, relaySide, connection, 0)
  carry(relaySide, agentSide, connection, 1)
  agentSide.resume()
}

process.once('SIGTERM', () => {
  server.close()
  for (const socket of sockets) socket.destroy()
  closeSync(file)
  process.exit(0)
})
server.listen(0, HOST, () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
