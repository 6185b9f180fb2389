/** `agentmesh send`: a request to a peer, and with `--wait` everything that becomes of it until the answer. */
import {
  DEFAULT_MAX_MESSAGE_BYTES,
  Intent,
  parseAmid,
  parseIntent,
  parseJsonObject,
  parseMessageId,
  RequestPayload,
  SchemaName,
  SessionType,
  validate,
} from '@agentmesh/sdk/wire'
import type { RequestInput } from '@agentmesh/sdk'
import { UsageError } from '../exit-codes.ts'
import { show, type Context } from '../output.ts'
import { sourcesOf } from './attachments.ts'
import { follow } from './progress.ts'
import { clientOf, readStdin } from './shared.ts'

export interface SendCommandOptions {
  intent: string
  action?: string
  params?: string
  type?: string
  budget?: string
  schema?: string
  id?: string
  expires?: number
  wait?: number
  attach?: readonly string[]
  saveTo?: string
}

export async function send(context: Context, amid: string, options: SendCommandOptions): Promise<void> {
  const to = parseAmid(amid)
  const sessionType =
    options.type === undefined ? undefined : validate(SessionType, options.type, 'read --type')
  const id = options.id === undefined ? undefined : parseMessageId(options.id)
  if (options.saveTo !== undefined && options.wait === undefined)
    throw new UsageError('--save-to needs --wait')
  const request = await requestFrom(options)
  const client = clientOf(context)
  const sent = await client.send(to, request, {
    ...(id === undefined ? {} : { id }),
    ...(sessionType === undefined ? {} : { sessionType }),
    ...(options.expires === undefined ? {} : { expiresInSeconds: Math.ceil(options.expires) }),
  })
  if (options.wait === undefined) {
    show(context, { id: sent }, () => sent)
    return
  }
  process.exitCode = await follow(context, client, sent, options.wait, options.saveTo)
}

async function requestFrom(options: SendCommandOptions): Promise<RequestInput> {
  const { budget, schema } = options
  const text = options.params === '-' ? await readStdin(DEFAULT_MAX_MESSAGE_BYTES) : (options.params ?? '{}')
  const { attachments: _, ...request } = validate(
    RequestPayload,
    {
      intent: intentFrom(options.intent, options.action),
      parameters: parseJsonObject(text, DEFAULT_MAX_MESSAGE_BYTES),
      ...(budget === undefined ? {} : { budget: budgetFrom(budget) }),
      ...(schema === undefined
        ? {}
        : { response_format: { type: 'structured', schema: validate(SchemaName, schema, 'read --schema') } }),
    },
    'read the request',
  )
  return options.attach === undefined ? request : { ...request, attachments: sourcesOf(options.attach) }
}

/** @throws MALFORMED for what is no category of the taxonomy, or not in form */
export function intentFrom(text: string, action?: string): Intent {
  return validate(
    Intent,
    { ...parseIntent(text), ...(action === undefined ? {} : { action }) },
    'read --intent',
  )
}

function budgetFrom(text: string): { max: number; currency: string } {
  const [, max, currency] = /^(\d{1,12}(?:\.\d{1,6})?):([A-Za-z]{3,10})$/.exec(text) ?? []
  if (max === undefined || currency === undefined)
    throw new UsageError('--budget is MAX:CURRENCY, such as 500:EUR')
  return { max: Number(max), currency }
}
