/**
 * The six kinds of certificate (spec/certificates.md 2), told apart by what stands in them and never by a name. What fits no
 * kind is none of ours, whatever an RFC 5280 validator says of it.
 */
import { amidToBytes, toHex } from '../../wire/index.ts'
import type { Certificate, KeyUsageName } from './certificate.ts'
import { PATH_LENGTHS } from './issue.ts'

export type CertificateKind = 'root' | 'intermediate' | 'organization' | 'agent' | 'session' | 'service'

export function kindOf(certificate: Certificate): CertificateKind | undefined {
  const { amid, keyId, isCa, pathLength, publicKey, keyUsage, uris, dnsNames, nameConstraints, subject } =
    certificate
  const isUsedFor = (...names: readonly KeyUsageName[]) =>
    keyUsage.length === names.length && names.every((name) => keyUsage.includes(name))
  const isNamed = uris.length > 0 || dnsNames.length > 0

  if (amid !== undefined) {
    if (uris.length > 0 || dnsNames.length > 0 || nameConstraints !== undefined) return undefined
    if (!isCa) {
      return publicKey.type === 'x25519' && isUsedFor('keyAgreement') ? 'session' : undefined
    }
    const isAgent =
      pathLength === PATH_LENGTHS.agent &&
      isUsedFor('keyCertSign', 'digitalSignature') &&
      publicKey.type === 'ed25519' &&
      toHex(amidToBytes(amid)) === keyId
    return isAgent ? 'agent' : undefined
  }
  if (publicKey.type !== 'ed25519') return undefined
  if (!isCa) {
    const isService = isUsedFor('digitalSignature') && uris.length === 1 && dnsNames.length === 0
    return isService ? 'service' : undefined
  }
  if (!isUsedFor('keyCertSign', 'cRLSign')) return undefined
  if (nameConstraints !== undefined) {
    const isConstrainedToItself =
      pathLength === PATH_LENGTHS.organization &&
      uris.length === 0 &&
      dnsNames.length === 1 &&
      nameConstraints.dnsNames.length === 1 &&
      nameConstraints.dnsNames[0] === dnsNames[0] &&
      nameConstraints.directoryNames.length === 1 &&
      subject.organization !== undefined &&
      subject.rdns.length === 1 &&
      nameConstraints.directoryNames[0]?.organization === subject.organization &&
      nameConstraints.directoryNames[0].rdns.length === 1
    return isConstrainedToItself ? 'organization' : undefined
  }
  if (isNamed) return undefined
  if (pathLength === PATH_LENGTHS.root) return 'root'
  return pathLength === PATH_LENGTHS.intermediate ? 'intermediate' : undefined
}
