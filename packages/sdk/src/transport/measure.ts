/**
 * How far away a relay is: the time from dialling it to its HELLO, which is what a connection costs and proves that a relay
 * with this name is there. Three tries one after the other, the median counts; a relay that fails one is out of reach.
 */
import { WebSocket } from 'ws'
import { binaryCodec, isAgentMeshError } from '../wire/index.ts'
import { relayUrl } from './relay-url.ts'

const TRIES = 3
const TIMEOUT_MS = 2_000
const MAX_HELLO_BYTES = 1_024

/** Milliseconds from dialling to HELLO; undefined when there is none in time, or it names another relay. */
async function timeToHello(url: string, now: () => number): Promise<number | undefined> {
  const { href, host } = relayUrl(url)
  const started = now()
  return new Promise((resolve) => {
    const webSocket = new WebSocket(href, binaryCodec.subprotocol, {
      perMessageDeflate: false,
      maxPayload: MAX_HELLO_BYTES,
      followRedirects: false,
    })
    const timer = setTimeout(() => done(undefined), TIMEOUT_MS)
    const done = (result: number | undefined): void => {
      clearTimeout(timer)
      resolve(result)
      webSocket.terminate()
    }
    webSocket.on('error', () => done(undefined))
    webSocket.on('close', () => done(undefined))
    webSocket.on('message', (data) => {
      try {
        const frame = binaryCodec.decodeFromRelay(data as Buffer)
        done(frame.frame === 'HELLO' && frame.relayId === host ? now() - started : undefined)
      } catch (error) {
        if (!isAgentMeshError(error)) throw error
        done(undefined)
      }
    })
  })
}

/**
 * The median time to HELLO of a relay, in the unit of `now`.
 *
 * @param url `ws:` or `wss:`
 * @param now a clock that does not jump, milliseconds
 * @returns undefined when the relay cannot be reached
 */
export async function measureRelay(url: string, now: () => number): Promise<number | undefined> {
  const times: number[] = []
  while (times.length < TRIES) {
    const time = await timeToHello(url, now)
    if (time === undefined) return undefined
    times.push(time)
  }
  return times.toSorted((left, right) => left - right)[Math.floor(TRIES / 2)]
}
