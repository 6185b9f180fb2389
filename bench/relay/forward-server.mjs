/**
 * The bound of a relay in Node: every two connections are a pair, and what one writes is written to the other as it came, unread. Reads
 * in place as the relay does, so that what is left is the kernel and the event loop. Prints its port.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { readInPlace } from '../../apps/relay/dist/read-in-place.js'

/** Those without a partner, one at most. @type {import('node:net').Socket[]} */
const waiting = []
/** @type {WeakMap<import('node:net').Socket, import('node:net').Socket>} */
const partners = new WeakMap()

const server = createServer({ noDelay: true }, (accepted) => {
  const socket = readInPlace(accepted, (data, length) => {
    partners.get(socket)?.write(Buffer.from(data.subarray(0, length)))
  })
  socket.on('error', () => {})
  const partner = waiting.pop()
  if (partner === undefined) waiting.push(socket)
  else {
    partners.set(socket, partner)
    partners.set(partner, socket)
  }
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
process.stdout.write(`${JSON.stringify(server.address())}\n`)
