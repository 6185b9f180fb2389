/**
 * `agentmesh registry init`: the certificate authority of a registry. Never overwrites; prints the fingerprint, by which owners
 * choose whom to trust.
 */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { REVOCATION_REASONS } from '@agentmesh/sdk/identity'
import { formatTimestamp } from '@agentmesh/sdk/wire'
import { UsageError } from '../exit-codes.ts'
import { fields, show, table, type Context } from '../output.ts'

export interface RegistryInitOptions {
  dir?: string
  data: string
  name: string
  url: string
  offlineRoot?: string
}

export async function registryInit(context: Context, options: RegistryInitOptions): Promise<void> {
  const { authorityFolder, initAuthority } = await import('@agentmesh/registry')
  const folder = options.dir ?? authorityFolder(options.data)
  const passphrase = caPassphrase()
  const { fingerprint, name, url } = initAuthority({
    folder,
    name: options.name,
    url: options.url,
    now: Date.now(),
    random: systemRandom,
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(options.offlineRoot === undefined ? {} : { offlineRoot: options.offlineRoot }),
  })
  const made = {
    name,
    url,
    fingerprint,
    folder,
    keys: passphrase === undefined ? 'file' : 'passphrase',
    root_key: options.offlineRoot ?? null,
  }
  show(context, made, () =>
    [
      fields([
        ['registry', `${name} (${url})`],
        ['fingerprint', fingerprint],
        ['folder', folder],
        ['keys', passphrase === undefined ? 'protected by file permissions' : 'sealed under the passphrase'],
        ['root key', options.offlineRoot ?? 'in the folder'],
      ]),
      ...(options.offlineRoot === undefined
        ? []
        : ['', `Take ${options.offlineRoot} off this machine: the registry runs without it.`]),
      '',
      'Next: agentmesh registry',
    ].join('\n'),
  )
}

export interface RootListOptions {
  dir?: string
  data: string
  root: string
}

/** `agentmesh registry root-list`: with the root's key from its safe. */
export async function registryRootList(context: Context, options: RootListOptions): Promise<void> {
  const { authorityFolder, renewRootList } = await import('@agentmesh/registry')
  const folder = options.dir ?? authorityFolder(options.data)
  const nextUpdate = renewRootList({
    folder,
    rootFile: options.root,
    now: Date.now(),
    passphrase: caPassphrase(),
  })
  const made = { folder, next_update: formatTimestamp(nextUpdate) }
  show(
    context,
    made,
    () => `The root's revocation list holds until ${made.next_update}. Restart the registry.`,
  )
}

export interface IntermediateOptions {
  dir?: string
  data: string
  root?: string
  reason?: string
}

/** `agentmesh registry intermediate renew|revoke|list`: the root is needed for the first two, the registry is not. */
export async function registryIntermediate(
  context: Context,
  action: 'renew' | 'revoke' | 'list',
  options: IntermediateOptions,
  keyId = '',
): Promise<void> {
  const { authorityFolder, listIntermediates, renewIntermediate, revokeIntermediate } =
    await import('@agentmesh/registry')
  const folder = options.dir ?? authorityFolder(options.data)
  const passphrase = caPassphrase()
  const terms = { folder, rootFile: options.root, passphrase, now: Date.now() }
  if (action === 'list') {
    const rows = listIntermediates(folder, passphrase).map(({ certificate, state }) => ({
      key_id: certificate.keyId,
      state,
      not_after: formatTimestamp(certificate.notAfter),
    }))
    show(context, rows, () =>
      table(
        ['key id', 'state', 'until'],
        rows.map(({ key_id, state, not_after }) => [key_id, state, not_after]),
      ),
    )
  } else if (action === 'renew') {
    const made = renewIntermediate({ ...terms, random: systemRandom })
    show(context, made, ({ issuing, retired }) =>
      [
        `Intermediate ${issuing} issues once the registry is restarted.`,
        `${retired} stays good for what it issued, until it is revoked or ends.`,
      ].join('\n'),
    )
  } else {
    const reason = REVOCATION_REASONS.find((name) => name === options.reason)
    if (reason === undefined) throw new UsageError(`--reason is one of ${REVOCATION_REASONS.join(', ')}`)
    const nextUpdate = formatTimestamp(revokeIntermediate({ ...terms, keyId, reason }))
    show(context, { revoked: keyId, reason, next_update: nextUpdate }, () =>
      [
        `${keyId} is on the root's revocation list, which holds until ${nextUpdate}.`,
        'Restart the registry: then nothing under it is accepted, and agents fetch new certificates.',
      ].join('\n'),
    )
  }
}

/** Taken out of the environment, so that no program started from here inherits it. */
export function caPassphrase(): string | undefined {
  const passphrase = process.env['AGENTMESH_CA_PASSPHRASE']
  delete process.env['AGENTMESH_CA_PASSPHRASE']
  return passphrase === '' ? undefined : passphrase
}
