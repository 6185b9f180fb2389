/**
 * The environment of a program that we start for the owner: an editor, a browser, the command that stops a framework, the
 * daemon. Our variables hold passphrases and tokens, and what reads them later need not be what we started; so none goes on but
 * the one that says where the home is. DESIGN §9.
 */
const HANDED_ON = 'AGENTMESH_HOME'

export function childEnvironment(own: Readonly<NodeJS.ProcessEnv>): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(own).filter(
      ([name]) => name === HANDED_ON || !name.toUpperCase().startsWith('AGENTMESH_'),
    ),
  )
}
