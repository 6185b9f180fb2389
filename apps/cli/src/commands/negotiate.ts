/** `agentmesh negotiate`: what a peer can do, before a conversation (specification §6.3). */
import { CapabilityNegotiationPayload, parseAmid, validate } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { show, type Context } from '../output.ts'
import { follow } from './progress.ts'
import { intentFrom } from './send.ts'
import { clientOf } from './shared.ts'

export interface NegotiateOptions {
  intent: string
  need: string
  schema?: string
  language?: string
  payment?: string
  wait?: number
}

export async function negotiate(context: Context, amid: string, options: NegotiateOptions): Promise<void> {
  const to = parseAmid(amid)
  const { schema, language, payment, wait } = options
  const need = validate(
    CapabilityNegotiationPayload,
    {
      i_need: names(options.need, '--need'),
      ...(schema === undefined ? {} : { preferred_schemas: names(schema, '--schema') }),
      ...(language === undefined ? {} : { languages: names(language, '--language') }),
      ...(payment === undefined ? {} : { payment_methods: names(payment, '--payment') }),
    },
    'read what is needed',
  )
  const client = clientOf(context)
  const id = await client.negotiate(to, intentFrom(options.intent), need)
  if (wait === undefined) show(context, { id }, () => id)
  else process.exitCode = await follow(context, client, id, wait)
}

/** Items with commas between them, each once. */
function names(text: string, option: string): string[] {
  const items = text
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean)
  if (items.length === 0) throw new UsageError(`${option} names nothing`)
  return [...new Set(items)]
}
