/**
 * `agentmesh registry init`: the certificate authority of a registry. Never overwrites; prints the fingerprint, by which owners
 * choose whom to trust.
 */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { formatTimestamp } from '@agentmesh/sdk/wire'
import { fields, show, type Context } from '../output.ts'

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
  const nextUpdate = renewRootList(folder, options.root, { now: Date.now(), passphrase: caPassphrase() })
  const made = { folder, next_update: formatTimestamp(nextUpdate) }
  show(
    context,
    made,
    () => `The root's revocation list holds until ${made.next_update}. Restart the registry.`,
  )
}

/** Taken out of the environment, so that no program started from here inherits it. */
export function caPassphrase(): string | undefined {
  const passphrase = process.env['AGENTMESH_CA_PASSPHRASE']
  delete process.env['AGENTMESH_CA_PASSPHRASE']
  return passphrase === '' ? undefined : passphrase
}
