/** Sends hostile requests to a running server, one after the other, and judges every answer. */
import { Agent, request as httpRequest } from 'node:http'
import { text as textFrom } from 'node:stream/consumers'
import { judgeAnswer, type ServerAnswer } from './rules.ts'
import type { HostileRequest, RequestSource } from './requests.ts'

const ANSWER_MILLISECONDS = 20_000
const MAX_FINDINGS = 10
/** Below what Node takes of a header, so that what is longer is not all that is asked. */
const MAX_TARGET = 12_000

export type Headers = Readonly<Record<string, string>>

export interface HttpRun {
  readonly url: string
  readonly source: Pick<RequestSource, 'at'>
  readonly codes: ReadonlySet<string>
  readonly requests: number
  readonly from?: number
  /** The headers that prove who asks, rightly or not. */
  readonly credentials: (request: HostileRequest) => Headers
  /** Called before each request. */
  readonly onRequest?: (index: number) => Promise<void> | void
}

export interface HttpFinding {
  readonly index: number
  readonly operation: string
  readonly detail: string
}

export interface HttpReport {
  /** How often each operation answered with each status. */
  readonly statuses: Readonly<Record<string, Readonly<Record<number, number>>>>
  readonly codes: Readonly<Record<string, number>>
  readonly findings: readonly HttpFinding[]
}

export async function runHttp(run: HttpRun): Promise<HttpReport> {
  const { url, source, from = 0 } = run
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const statuses: Record<string, Record<number, number>> = {}
  const codes: Record<string, number> = {}
  const findings: HttpFinding[] = []
  try {
    for (let index = from; index < from + run.requests && findings.length < MAX_FINDINGS; index++) {
      await run.onRequest?.(index)
      const request = source.at(index)
      const { operation } = request
      const headers = { ...request.headers, ...run.credentials(request) }
      try {
        const send = () => ask(agent, url, { ...request, headers })
        if (request.credential === 'replayed') await send()
        const answer = await send()
        const broken = judgeAnswer(request.method, answer, run.codes)
        if (broken !== undefined) findings.push({ index, operation, detail: broken })
        const counts = (statuses[operation] ??= {})
        counts[answer.status] = (counts[answer.status] ?? 0) + 1
        const code = /"code":"([A-Z_0-9]+)"/.exec(answer.text)?.[1]
        if (answer.status >= 400 && code !== undefined) codes[code] = (codes[code] ?? 0) + 1
      } catch (error) {
        findings.push({ index, operation, detail: `no answer: ${String(error)}` })
      }
    }
  } finally {
    agent.destroy()
  }
  return { statuses, codes, findings }
}

export async function ask(
  agent: Agent,
  url: string,
  { method, target, headers, body }: Pick<HostileRequest, 'method' | 'target' | 'headers' | 'body'>,
): Promise<ServerAnswer> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const path = target.slice(0, MAX_TARGET)
    // Node's client frames no body of a method that usually has none.
    const framed = body === undefined ? headers : { ...headers, 'content-length': String(body.length) }
    const outgoing = httpRequest(
      { agent, host: hostname, port, method, path, headers: framed },
      (incoming) => {
        textFrom(incoming).then(
          (text) =>
            resolve({
              status: incoming.statusCode ?? 0,
              contentType: incoming.headers['content-type'] ?? '',
              text,
            }),
          reject,
        )
      },
    )
    outgoing.setTimeout(ANSWER_MILLISECONDS, () => outgoing.destroy(new Error('the server did not answer')))
    outgoing.once('error', reject)
    outgoing.end(body)
  })
}
