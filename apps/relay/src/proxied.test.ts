/** Limits by address where clients come through proxies: the real client is counted, and nobody's word but a proxy's is taken. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { RelayLimits } from './limits.ts'
import type { RunningRelay } from './relay-options.ts'
import { startRelay } from './server.ts'

let relay: RunningRelay
const sockets: Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await relay.close()
})

/** The status with which the upgrade of one more silent WebSocket is answered. */
async function open(forwardedFor: string | undefined, from = '127.0.0.1'): Promise<number> {
  const socket = connect({ port: relay.port, host: '127.0.0.1', localAddress: from })
  sockets.push(socket)
  const header = forwardedFor === undefined ? '' : `X-Forwarded-For: ${forwardedFor}\r\n`
  socket.write(
    `GET /v1/connect HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${header}` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n' +
      'Sec-WebSocket-Protocol: agentmesh.v0.2.json\r\n\r\n',
  )
  const [answer] = (await once(socket, 'data')) as [Buffer]
  return Number(answer.toString().slice(9, 12))
}

async function start(trustedProxies: string[], more: Partial<RelayLimits> = {}): Promise<void> {
  const limits = { preAuthSocketsPerIp: 2, closeGraceMs: 100, ...more }
  relay = await startRelay({ dataPath: ':memory:', trustedProxies, limits })
}

test('each client behind a trusted proxy has sockets of its own', async () => {
  await start(['127.0.0.1'])
  const clients = ['198.51.100.1', '198.51.100.2', '2001:db8::1']
  for (const client of clients) expect([await open(client), await open(client)]).toEqual([101, 101])
  expect(await open('198.51.100.1')).toBe(429)
  // The same /64.
  expect(await open('2001:db8::2')).toBe(429)
  expect(await open('198.51.100.3')).toBe(101)
})

test('a client that adds addresses to the left stays the one its proxy saw', async () => {
  await start(['127.0.0.0/8'])
  const spoofed = (n: number) => `203.0.113.${n}, 198.51.100.1, 127.0.0.9`
  expect([await open(spoofed(1)), await open(spoofed(2)), await open(spoofed(3))]).toEqual([101, 101, 429])
})

test('a stranger cannot be somebody else, nor use up what somebody else has', async () => {
  await start(['127.0.0.1'])
  const stranger = '127.0.0.2'
  expect([await open('198.51.100.1', stranger), await open('198.51.100.2', stranger)]).toEqual([101, 101])
  expect(await open('198.51.100.3', stranger)).toBe(429)
  expect(await open('198.51.100.1')).toBe(101)
})

test('a socket that is gone makes room for its client, whoever carried it', async () => {
  await start(['127.0.0.1'])
  expect([await open('198.51.100.1'), await open('198.51.100.1'), await open('198.51.100.1')]).toEqual([
    101, 101, 429,
  ])
  const [first] = sockets
  first?.destroy()
  let status = 429
  while (status === 429) status = await open('198.51.100.1')
  expect(status).toBe(101)
})

test('all sockets of a client count, and all it opens, whoever carries them', async () => {
  const opened = { perSecond: 0.001, burst: 4 }
  await start(['127.0.0.1'], { preAuthSocketsPerIp: 9, socketsPerIp: 3, socketsOpenedPerIp: opened })
  const tries = async (client: string) => [
    await open(client),
    await open(client),
    await open(client),
    await open(client),
  ]
  expect(await tries('198.51.100.1')).toEqual([101, 101, 101, 429])
  sockets[0]?.destroy()
  sockets[1]?.destroy()
  expect(await tries('198.51.100.2')).toEqual([101, 101, 101, 429])
  // The places are free again; it has opened enough.
  expect(await open('198.51.100.1')).toBe(429)
})
