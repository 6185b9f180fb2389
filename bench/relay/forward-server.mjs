/**
 * The bound of a relay in Node: every two connections are a pair, and what one writes is written to the other as it came, unread. Reads
 * in place as the relay does, so that what is left is the kernel and the event loop. Prints its port.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { readInPlace } from '../../apps/relay/dist/read-in-place.js'

/** @type {import('node:net').Socket | undefined} */
let waiting
/** @type {WeakMap<import('node:net').Socket, import('node:net').Socket>} */
const partners = new WeakMap()

const server = createServer({ noDelay: true }, (accepted) => {
  const socket = readInPlace(accepted, (data, length) => {
    partners.get(socket)?.write(Buffer.from(data.subarray(0, length)))
  })
  socket.on('error', () => {})
  if (waiting === undefined) waiting = socket
  else {
    partners.set(socket, waiting)
    partners.set(waiting, socket)
    waiting = undefined
  }
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
process.stdout.write(`${JSON.stringify(server.address())}\n`)
