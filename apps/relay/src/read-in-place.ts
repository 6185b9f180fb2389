/**
 * Reads a TCP connection into one buffer that all connections share, instead of into a new one each time: half the cost of
 * a small read, and no memory for a connection that says nothing.
 *
 * Node offers this (`onread` of net.Socket) where a program makes the socket itself, and not for those a server accepted.
 * So the accepted socket's handle moves to a new socket, which also leaves behind all that `node:http` had hung on the old one. Where
 * there is no such handle (TLS), the socket is read as any other.
 */
import { Socket } from 'node:net'

const SHARED_BYTES = 64 * 1024
const shared = Buffer.allocUnsafeSlow(SHARED_BYTES)

/** What Node's sockets have and its types leave out. */
const HANDLE = '_handle'
interface Handled {
  [HANDLE]?: object | null
}
interface HandleOptions {
  readonly handle: object
  readonly onread: { readonly buffer: Buffer; readonly callback: (length: number) => boolean }
}
const SocketOnHandle = Socket as unknown as new (options: HandleOptions) => Socket

/**
 * Calls `take` with what comes from now on, as the first `length` bytes of a buffer that is valid, and may be written over,
 * during the call. Returns the socket to use in the place of `accepted`, which is destroyed where that is another.
 */
export function readInPlace(accepted: Socket, take: (data: Buffer, length: number) => void): Socket {
  const { [HANDLE]: handle } = accepted as Handled
  if (accepted.constructor !== Socket || handle === undefined || handle === null) {
    accepted.on('data', (data: Buffer) => take(data, data.length))
    return accepted
  }
  ;(accepted as Handled)[HANDLE] = null
  accepted.destroy()
  return new SocketOnHandle({
    handle,
    onread: {
      buffer: shared,
      callback: (length) => {
        take(shared, length)
        return true
      },
    },
  })
}
