/** The address of a relay, in the one form that is compared. */
import { AgentMeshError, RELAY_PATH } from '../wire/index.ts'

/** `ws:` or `wss:`, with or without the path, which is added. @throws MALFORMED */
export function relayUrl(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch (cause) {
    throw new AgentMeshError('MALFORMED', 'The relay URL is not a URL', { cause })
  }
  if (url.protocol !== 'ws:' && url.protocol !== 'wss:') {
    throw new AgentMeshError('MALFORMED', 'The relay URL must begin with ws: or wss:')
  }
  if (url.pathname === '/') url.pathname = RELAY_PATH
  return url
}

/** Two texts that lead to the same relay give the same one. @throws MALFORMED */
export function normalRelayUrl(text: string): string {
  return relayUrl(text).href
}
