/** `agentmesh forget`: all that is held about a peer, gone. */
import { parseAmid } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { show, type Context } from '../output.ts'
import { clientOf } from './shared.ts'

export async function forget(context: Context, text: string, options: { yes?: boolean }): Promise<void> {
  const amid = parseAmid(text)
  if (options.yes !== true && !(await confirmed(amid))) {
    show(context, { amid, forgotten: false }, () => 'Nothing was changed.')
    return
  }
  await clientOf(context).forget(amid)
  show(context, { amid, forgotten: true }, () => `All that was held about ${amid} is deleted.`)
}

/** @throws UsageError where nobody can be asked */
async function confirmed(amid: string): Promise<boolean> {
  if (!process.stdin.isTTY) throw new UsageError('This cannot be undone: confirm it with --yes')
  const { confirm, isCancel } = await import('@clack/prompts')
  const message = `End every session with ${amid} and delete its keys, messages and decisions?`
  const answer = await confirm({ message, initialValue: false, output: process.stderr })
  return !isCancel(answer) && answer
}
