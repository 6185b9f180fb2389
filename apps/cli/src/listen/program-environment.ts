/**
 * What an answering program has in its environment: what programs need to run at all, what the owner names by `--env`, and
 * the three facts about its request. It works on a stranger's words, so a key of the shell that `listen` was typed in is
 * no concern of its, and a passphrase or token of AgentMesh never.
 */
import type { IncomingRequest } from '@agentmesh/sdk'
import { UsageError } from '../exit-codes.ts'

const HANDED_ON: ReadonlySet<string> = new Set([
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'LANG',
  'TZ',
  'TMPDIR',
  'TERM',
  'NO_COLOR',
])
const LOCALE = 'LC_'
const OURS = 'AGENTMESH_'

/** @throws UsageError for what is no name of a variable, and for AGENTMESH_* */
export function requireProgramVariables(names: readonly string[]): void {
  for (const name of names) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw new UsageError(`--env takes the name of a variable, not ${JSON.stringify(name)}`)
    if (name.toUpperCase().startsWith(OURS))
      throw new UsageError(`--env ${name}: variables of AgentMesh are not handed to answering programs`)
  }
}

export function programEnvironment(
  own: Readonly<NodeJS.ProcessEnv>,
  named: readonly string[],
  request: IncomingRequest,
): NodeJS.ProcessEnv {
  const added = new Set(named)
  const inherited = Object.entries(own).filter(
    ([name]) => HANDED_ON.has(name) || name.startsWith(LOCALE) || added.has(name),
  )
  return {
    ...Object.fromEntries(inherited),
    AGENTMESH_REQUEST_ID: request.id,
    AGENTMESH_SESSION_ID: request.session_id,
    AGENTMESH_FROM: request.from,
  }
}
