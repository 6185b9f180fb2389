/**
 * A registry that an owner trusts: its root, the intermediates under it, and the key that signs its log and its credentials
 * (DESIGN §8). The owner chooses it by the fingerprint of the root; everything else follows from that one certificate.
 */
import { AgentMeshError, TrustDocument, validate } from '../../wire/index.ts'
import { kindOf } from './certificate-kind.ts'
import { certificateFingerprint, certificateFromText, isSignedBy, type Certificate } from './certificate.ts'
import { checkPath, checkProfile } from './path-validation.ts'

export interface TrustedRegistry {
  readonly name: string
  readonly url: string
  /** Of the root: the registry's id. */
  readonly fingerprint: string
  readonly root: Certificate
  readonly intermediates: readonly Certificate[]
  /** Ed25519, 32 bytes. */
  readonly serviceKey: Uint8Array
  readonly serviceCertificate: Certificate
}

/**
 * Reads what `GET /trust` gave. Revocation is not looked at here: the lists are fetched with what this returns.
 *
 * @param check `now` in milliseconds since the epoch; `fingerprint` that of the root the owner chose. Without it the document
 *   proves nothing but that it is consistent.
 * @throws MALFORMED, CERTIFICATE_MALFORMED, CERTIFICATE_INVALID
 */
export function openTrustDocument(
  raw: unknown,
  { now, fingerprint }: { readonly now: number; readonly fingerprint?: string },
): TrustedRegistry {
  const document = validate(TrustDocument, raw, 'read a trust document')
  const root = certificateFromText(document.root)
  if (fingerprint !== undefined && certificateFingerprint(root) !== fingerprint) {
    throw invalid('The root is not the one that was chosen')
  }
  if (kindOf(root) !== 'root' || !isSignedBy(root, root)) throw invalid('The root is none')
  const intermediates = document.intermediates.map(certificateFromText)
  for (const intermediate of intermediates) requirePath([intermediate], root, now)
  const service = certificateFromText(document.service_certificate)
  const issuer = intermediates.find(({ keyId }) => keyId === service.authorityKeyId)
  if (issuer === undefined || kindOf(service) !== 'service') throw invalid('The service certificate is none')
  requirePath([service, issuer], root, now)
  if (service.uris[0] !== document.url) throw invalid('The service certificate is for another address')
  return {
    name: document.name,
    url: document.url,
    fingerprint: certificateFingerprint(root),
    root,
    intermediates,
    serviceKey: service.publicKey.bytes,
    serviceCertificate: service,
  }
}

function requirePath(below: readonly Certificate[], root: Certificate, now: number): void {
  const { failure = checkProfile([...below, root]) } = checkPath(below, root, { now, crlOf: () => undefined })
  if (failure !== undefined) throw invalid(`${failure.code} at depth ${failure.depth}, step ${failure.step}`)
}

function invalid(why: string): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_INVALID', why, { operation: 'read a trust document' })
}
