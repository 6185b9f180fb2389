/** Starts what certifies: the authority with its keys, and the organisations under it. */
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import type { RegistryLimits } from '../limits.ts'
import { dnsLookup, type ResolverAddress } from '../organizations/dns-lookup.ts'
import { Organizations } from '../organizations/organizations.ts'
import type { Store } from '../store/store.ts'
import { TransparencyLog } from '../transparency/transparency-log.ts'
import type { AuthorityKeys } from './authority-keys.ts'
import { CertificateAuthority } from './certificate-authority.ts'

export interface Certification {
  readonly authority: CertificateAuthority
  readonly organizations: Organizations
}

/** @throws MALFORMED for resolvers that are not two, STORE_FAILED */
export async function startCertification(
  keys: AuthorityKeys,
  store: Store,
  limits: RegistryLimits,
  resolvers: readonly ResolverAddress[],
  now: number,
): Promise<Certification> {
  const dns = dnsLookup(resolvers)
  const log = new TransparencyLog(store.transparency, {
    fingerprint: keys.fingerprint,
    serviceKey: keys.service.signing,
  })
  const authority = await CertificateAuthority.start(
    keys,
    {
      store,
      log: {
        append: (tx, entry) => store.transparency.append(tx, entry),
        certificateProof: (hash, at) => log.certificateProof(hash, at),
      },
      random: systemRandom,
      maxAgentsOfHuman: limits.maxAgentsOfHuman,
    },
    now,
  )
  const organizations = new Organizations({ store, authority, dns })
  await organizations.recertify(now)
  await authority.endUnfounded(now)
  return { authority, organizations }
}
