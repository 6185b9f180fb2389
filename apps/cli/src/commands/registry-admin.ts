/**
 * `agentmesh registry admin`: the operator's side of a registry, over its admin endpoints. The token comes from
 * AGENTMESH_REGISTRY_ADMIN_TOKEN, never from the command line, which other users of the machine can see.
 */
import { AgentMeshError, isErrorCode, parseJsonObject, type JsonObject } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { jsonLine, print, show, table, type Context } from '../output.ts'

const MAX_ANSWER_BYTES = 1024 * 1024
const TIMEOUT_MILLISECONDS = 15_000

export interface AdminOptions {
  readonly url: string
  readonly reason?: string
}
export interface RevokeOptions extends AdminOptions {
  readonly code: string
}
export interface BanOptions extends AdminOptions {
  readonly human?: boolean
}

interface HeldChange {
  readonly amid: string
  readonly published: number
  readonly proposed: number
  readonly reasons: readonly string[]
  readonly published_at: string
}

export async function reviews(context: Context, options: AdminOptions): Promise<void> {
  const held: HeldChange[] = []
  for await (const page of pages(options, '/reviews', {}))
    held.push(...(page['held'] as unknown as HeldChange[]))
  show(context, { held }, () =>
    held.length === 0
      ? 'Nothing waits for a decision.'
      : table(
          ['AMID', 'published', 'proposed', 'why', 'by itself at'],
          held.map((change) => [
            change.amid,
            change.published.toFixed(3),
            change.proposed.toFixed(3),
            change.reasons.join(', '),
            change.published_at,
          ]),
        ),
  )
}

export async function decide(
  context: Context,
  amid: string,
  decision: 'approve' | 'reject',
  options: AdminOptions,
): Promise<void> {
  const answer = await call(options, 'POST', '/reviews', { amid, decision, reason: options.reason })
  show(context, answer, () =>
    decision === 'approve' ? `Published for ${amid}.` : `Struck out; ${amid} is evaluated again.`,
  )
}

export async function revoke(context: Context, amid: string, options: RevokeOptions): Promise<void> {
  const answer = await call(options, 'POST', '/revoke', { amid, code: options.code, reason: options.reason })
  show(context, answer, () => `Revoked for ${amid}: ${Number(answer['revoked'])}`)
}

export async function ban(context: Context, amid: string, options: BanOptions): Promise<void> {
  const scope = options.human === true ? 'human' : 'agent'
  const answer = await call(options, 'POST', '/bans', { amid, scope, reason: options.reason })
  show(context, answer, () => ['Banned:', ...(answer['banned'] as string[])].join('\n  '))
}

export async function unban(context: Context, subject: string, options: AdminOptions): Promise<void> {
  const answer = await call(options, 'POST', '/bans/lift', { subject, reason: options.reason })
  show(context, answer, () => `Lifted: ${subject}`)
}

export async function exportAll(kind: string, options: AdminOptions): Promise<void> {
  for await (const page of pages(options, '/export', { kind })) {
    for (const line of page['lines'] as JsonObject[]) print(jsonLine(line))
  }
}

async function* pages(
  options: AdminOptions,
  path: string,
  query: Readonly<Record<string, string>>,
): AsyncGenerator<JsonObject> {
  let cursor: string | undefined
  do {
    const search = new URLSearchParams({ ...query, ...(cursor === undefined ? {} : { cursor }) }).toString()
    const page = await call(options, 'GET', search === '' ? path : `${path}?${search}`)
    yield page
    cursor = typeof page['next_cursor'] === 'string' ? page['next_cursor'] : undefined
  } while (cursor !== undefined)
}

/** @throws REGISTRY_UNREACHABLE, REGISTRY_ANSWER_INVALID, and the code with which the registry refused */
async function call(options: AdminOptions, method: string, path: string, body?: object): Promise<JsonObject> {
  if (!URL.canParse(options.url)) throw new UsageError('--url is the URL of the registry')
  const url = new URL(`/v1/registry/admin${path}`, options.url)
  let status: number
  let bytes: Uint8Array
  try {
    const response = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${adminToken()}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      // The token is for this registry only.
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS),
    })
    status = response.status
    bytes = new Uint8Array(await response.arrayBuffer())
  } catch (cause) {
    if (cause instanceof UsageError) throw cause
    throw new AgentMeshError('REGISTRY_UNREACHABLE', undefined, { operation: 'ask the registry', cause })
  }
  const answer = readAnswer(bytes)
  if (status >= 200 && status < 300) return answer
  const { code, message } = answer
  if (typeof code === 'string' && isErrorCode(code)) {
    throw new AgentMeshError(code, typeof message === 'string' ? message : undefined)
  }
  throw new AgentMeshError('REGISTRY_ANSWER_INVALID', `The registry answered with status ${status}`)
}

function readAnswer(bytes: Uint8Array): JsonObject {
  try {
    return parseJsonObject(bytes, MAX_ANSWER_BYTES)
  } catch (cause) {
    throw new AgentMeshError('REGISTRY_ANSWER_INVALID', undefined, { operation: 'read the answer', cause })
  }
}

/** The first one of the list that a registry is started with, without its name. */
function adminToken(): string {
  const first = (process.env['AGENTMESH_REGISTRY_ADMIN_TOKEN'] ?? '').split(',')[0]?.trim() ?? ''
  const token = first.slice(first.indexOf(':') + 1)
  if (token === '') throw new UsageError('AGENTMESH_REGISTRY_ADMIN_TOKEN holds no token')
  return token
}
