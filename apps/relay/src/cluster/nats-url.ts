/** How an operator names NATS servers. Apart from the link: a configuration is checked without loading the client. */
import type { ConnectionOptions } from '@nats-io/transport-node'
import { AgentMeshError } from '@agentmesh/sdk/wire'

/**
 * @param url `nats://` or `tls://`, with user and password, or with a token in the place of the user; several behind commas
 * are one NATS cluster, with the credentials of the first
 * @throws MALFORMED for anything else
 */
export function natsOptions(url: string): ConnectionOptions {
  const urls = url.split(',').map(parseUrl)
  const [first] = urls
  if (first === undefined || urls.some(({ protocol }) => protocol !== first.protocol)) throw notAUrl()
  const user = decodeURIComponent(first.username)
  const pass = decodeURIComponent(first.password)
  return {
    servers: urls.map(({ host }) => host),
    ...(first.protocol === 'tls:' ? { tls: {} } : {}),
    ...(pass !== '' ? { user, pass } : user !== '' ? { token: user } : {}),
  }
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined
  if (url === undefined || !['nats:', 'tls:'].includes(url.protocol) || url.host === '') throw notAUrl()
  return url
}

function notAUrl(): AgentMeshError {
  // Without the text: it may hold a password.
  return new AgentMeshError('MALFORMED', 'Not a NATS URL: nats://host:4222 or tls://host:4222', {
    operation: 'join cluster',
  })
}
