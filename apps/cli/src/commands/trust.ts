/** `trust ...`: the registries whose certificates and credentials count here, and the successors of peers. */
import { escapeText } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { show, table, type Context } from '../output.ts'
import { clientOf } from './shared.ts'

export async function trustList(context: Context): Promise<void> {
  show(context, await clientOf(context).trustedRegistries(), (registries) =>
    registries.length === 0
      ? 'No registry is trusted: every agent counts as anonymous.'
      : table(
          ['name', 'address', 'fingerprint', 'by', 'problem'],
          registries.map(({ name, url, fingerprint, by, problem }) => [
            name,
            url,
            fingerprint,
            by,
            problem ?? '-',
          ]),
        ),
  )
}

export interface TrustAddOptions {
  fingerprint?: string
}

/** Whoever trusts a registry believes whom it calls verified, so nothing is trusted that nobody compared. */
export async function trustAdd(context: Context, url: string, options: TrustAddOptions): Promise<void> {
  const client = clientOf(context)
  let { fingerprint } = options
  if (fingerprint === undefined) {
    const found = await client.inspectRegistry(url)
    if (!(await confirmed(found))) {
      show(context, { ...found, trusted: false }, () => 'Nothing was changed.')
      return
    }
    fingerprint = found.fingerprint
  }
  await client.trustRegistry(url, fingerprint)
  show(context, { url, fingerprint, trusted: true }, () => `${escapeText(url)} is trusted.`)
}

/** @throws UsageError where nobody can be asked */
async function confirmed({ name, fingerprint }: { name: string; fingerprint: string }): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new UsageError(
      `Compare the fingerprint with what the operator publishes, and give it with --fingerprint ${fingerprint}`,
    )
  }
  const { confirm, isCancel } = await import('@clack/prompts')
  const message = `The registry calls itself ${escapeText(name)} and has the root\n${fingerprint}\nIs this what its operator publishes?`
  const answer = await confirm({ message, initialValue: false, output: process.stderr })
  return !isCancel(answer) && answer
}

export async function trustRemove(context: Context, which: string): Promise<void> {
  const removed = await clientOf(context).distrustRegistry(which)
  show(context, removed, ({ name }) => `${escapeText(name)} is not trusted any more.`)
}

export async function trustRefresh(context: Context): Promise<void> {
  await clientOf(context).refreshTrust()
  show(context, { refreshed: true }, () => 'Certificates, revocation lists and credentials are up to date.')
}

export async function trustSuccessors(context: Context): Promise<void> {
  show(context, await clientOf(context).successors(), (successors) =>
    successors.length === 0
      ? 'Nobody says to go on as a peer of yours.'
      : table(
          ['old', 'new', 'signed', 'state'],
          successors.map(({ old_amid, new_amid, created_at, state }) => [
            old_amid,
            new_amid,
            created_at,
            state === 'offered' ? 'waits for you' : state,
          ]),
        ),
  )
}

export async function trustAcceptSuccessor(context: Context, old: string, next: string): Promise<void> {
  await clientOf(context).acceptSuccessor(old, next)
  const accepted = { old_amid: old, new_amid: next, accepted: true }
  show(context, accepted, () => `${next} has the place of ${old}, which is blocked from now on.`)
}
