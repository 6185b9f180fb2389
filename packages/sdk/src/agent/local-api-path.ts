/** Where a daemon is found: its home and its socket. Apart from all that a daemon is made of, for commands that only ask it. */
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** `AGENTMESH_HOME`, else `~/.agentmesh`. */
export function defaultHomePath(environment: Readonly<Record<string, string | undefined>>): string {
  const chosen = environment['AGENTMESH_HOME']
  return chosen === undefined || chosen === '' ? join(homedir(), '.agentmesh') : resolve(chosen)
}

/** Where clients of a home find its daemon. */
export function localApiPath(home: string): string {
  if (process.platform !== 'win32') return join(home, 'agent.sock')
  return `\\\\.\\pipe\\agentmesh-${Buffer.from(home).toString('hex').slice(-200)}`
}
