/**
 * Who may use `/v1/registry/admin`: bearers of a token that the operator set, each under a name that the audit trail shows.
 * Tokens are compared as SHA-256 hashes in constant time; without any the door is closed.
 */
import { equalBytes, sha256 } from '@agentmesh/sdk/crypto/signing'
import { AgentMeshError, utf8Bytes } from '@agentmesh/sdk/wire'

const MIN_TOKEN_LENGTH = 24
const NAME = /^[a-z0-9][a-z0-9_.-]{0,31}$/

export interface Administrator {
  readonly name: string
  readonly tokenHash: Uint8Array
}

/**
 * Reads `name:token,name:token`; a token alone is that of `admin`.
 *
 * @throws CONFIG_INVALID for a token under 24 characters, or a name that is none or there twice
 */
export function parseAdministrators(text: string | undefined): Administrator[] {
  if (text === undefined || text.trim() === '') return []
  const administrators = text.split(',').map((part) => {
    const [name, token] = part.includes(':') ? splitOnce(part.trim()) : ['admin', part.trim()]
    if (!NAME.test(name) || token.length < MIN_TOKEN_LENGTH) {
      throw new AgentMeshError(
        'CONFIG_INVALID',
        `An administrator is name:token, the token at least ${MIN_TOKEN_LENGTH} characters long`,
        { operation: 'read administrators' },
      )
    }
    return { name, tokenHash: sha256(utf8Bytes(token)) }
  })
  if (new Set(administrators.map(({ name }) => name)).size < administrators.length) {
    throw new AgentMeshError('CONFIG_INVALID', 'Two administrators have one name', {
      operation: 'read administrators',
    })
  }
  return administrators
}

function splitOnce(text: string): [string, string] {
  const at = text.indexOf(':')
  return [text.slice(0, at), text.slice(at + 1)]
}

/** The name of whoever bears the token. @throws ADMIN_UNAUTHORIZED, the same for no token, a wrong one and a closed door */
export function authorize(administrators: readonly Administrator[], header: string | undefined): string {
  const token = /^bearer ([!-~]{1,512})$/i.exec(header ?? '')?.[1]
  const hash = sha256(utf8Bytes(token ?? ''))
  let name: string | undefined
  // Every hash is compared, so that the time says nothing about whose it is.
  for (const administrator of administrators) {
    if (equalBytes(administrator.tokenHash, hash)) name = administrator.name
  }
  if (token === undefined || name === undefined) throw new AgentMeshError('ADMIN_UNAUTHORIZED')
  return name
}
