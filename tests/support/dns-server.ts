/**
 * A DNS server for TXT records over UDP and TCP, on a port of its own, which answers as a test wants: truthfully, not at all,
 * cut short, or with an error.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { decode, encode, RECURSION_AVAILABLE, TRUNCATED_RESPONSE, type Answer, type Packet } from 'dns-packet'

/** Of the header's last four bits (RFC 1035 §4.1.1). */
const RCODE = { refused: 5, failure: 2, unknown: 3 } as const
const LENGTH_BYTES = 2

export class DnsServer {
  readonly #udp: UdpSocket
  readonly #tcp: Server
  readonly port: number
  /** TXT records by name. A record may be several strings. */
  readonly records = new Map<string, (string | string[])[]>()
  /** Names asked for, as `udp name` or `tcp name`. */
  readonly asked: string[] = []
  /** `cut`: over UDP only a truncated answer comes, so that the asker has to come over TCP. */
  mode: 'truthful' | 'silent' | 'cut' | 'failure' | 'refused' = 'truthful'

  private constructor(udp: UdpSocket, tcp: Server) {
    this.#udp = udp
    this.#tcp = tcp
    this.port = udp.address().port
  }

  static async start(): Promise<DnsServer> {
    // The port that TCP got may be taken over UDP.
    for (;;) {
      const tcp = createServer().listen(0, '127.0.0.1')
      await once(tcp, 'listening')
      const { port } = tcp.address() as AddressInfo
      const udp = createSocket('udp4')
      try {
        udp.bind(port, '127.0.0.1')
        await once(udp, 'listening')
      } catch {
        tcp.close()
        continue
      }
      const server = new DnsServer(udp, tcp)
      server.#serve()
      return server
    }
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  set(name: string, ...records: (string | string[])[]): void {
    this.records.set(name, records)
  }

  #serve(): void {
    this.#udp.on('message', (message, peer) => {
      const answer = this.#answer(message, 'udp')
      if (answer !== undefined) this.#udp.send(answer, peer.port, peer.address)
    })
    this.#tcp.on('connection', (socket) => {
      let received = Buffer.alloc(0)
      socket.on('error', () => socket.destroy())
      socket.on('data', (part: Buffer) => {
        received = Buffer.concat([received, part])
        if (received.length < LENGTH_BYTES || received.length < LENGTH_BYTES + received.readUInt16BE(0))
          return
        const answer = this.#answer(received.subarray(LENGTH_BYTES), 'tcp')
        if (answer === undefined) return
        const length = Buffer.alloc(LENGTH_BYTES)
        length.writeUInt16BE(answer.length)
        socket.end(Buffer.concat([length, answer]))
      })
    })
  }

  #answer(message: Buffer, over: 'udp' | 'tcp'): Buffer | undefined {
    const query = decode(message)
    const [question] = query.questions ?? []
    if (question === undefined) return undefined
    const name = question.name.toLowerCase()
    this.asked.push(`${over} ${name}`)
    if (this.mode === 'silent') return undefined
    const records = this.records.get(name)
    const rcode =
      this.mode === 'failure'
        ? RCODE.failure
        : this.mode === 'refused'
          ? RCODE.refused
          : records === undefined
            ? RCODE.unknown
            : 0
    const isCut = this.mode === 'cut' && over === 'udp'
    const answers: Answer[] =
      rcode === 0 && !isCut
        ? (records ?? []).map((data) => ({ type: 'TXT', name: question.name, ttl: 1, data }))
        : []
    const flags = RECURSION_AVAILABLE | rcode | (isCut ? TRUNCATED_RESPONSE : 0)
    const answer: Packet = { type: 'response', id: query.id ?? 0, flags, questions: [question], answers }
    return encode(answer)
  }

  async close(): Promise<void> {
    this.#udp.close()
    this.#tcp.close()
    await once(this.#tcp, 'close')
  }
}
