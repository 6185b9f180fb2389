/** A mail server on this machine. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { SMTPServer } from 'smtp-server'

export interface Mail {
  readonly from: string
  readonly to: readonly string[]
  readonly text: string
}

/** Takes everything, but mail to `refused@...`, and keeps it for those who wait for it. */
export class MailServer {
  readonly mails: Mail[] = []
  /** Addresses somebody tried to send to. */
  readonly tried: string[] = []
  readonly #server: SMTPServer
  readonly #waiting = new Set<() => void>()

  constructor() {
    this.#server = new SMTPServer({
      authOptional: true,
      disabledCommands: ['STARTTLS'],
      onRcptTo: ({ address }, _session, done) => {
        this.tried.push(address)
        this.#look()
        done(address.startsWith('refused@') ? new Error('No such user') : null)
      },
      onData: (stream, session, done) => {
        let text = ''
        stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
        stream.on('end', () => {
          const { mailFrom, rcptTo } = session.envelope
          this.mails.push({
            from: mailFrom === false ? '' : mailFrom.address,
            to: rcptTo.map(({ address }) => address),
            text,
          })
          this.#look()
          done()
        })
      },
    })
  }

  #look(): void {
    for (const look of this.#waiting) look()
  }

  async listen(): Promise<number> {
    const server = this.#server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }

  async until(holds: () => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!holds()) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  /** The code in the mail of this number, counted from 1. */
  async code(number: number): Promise<string> {
    await this.until(() => this.mails.length >= number)
    return /code: (\d{8})\r?\n/.exec(this.mails[number - 1]!.text)![1]!
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#server.close(resolve))
  }
}
