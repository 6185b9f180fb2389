/**
 * What was found out about certificates of chains that held, so that an agent which knocks again costs one signature check:
 * that of its new session certificate.
 *
 * Kept is only what no time can change: what the bytes of a CA certificate say, and whose key signed them. Dates, lists, names
 * and constraints are looked at each time, so an entry cannot outlive a revocation and needs no end of its own. Only
 * certificates of a valid path are kept, so strangers cannot push them out with others of their own making.
 */
import { equalBytes, sha256 } from '../../crypto/signing.ts'
import { toHex } from '../../wire/index.ts'
import { parseCertificate, type Certificate } from './certificate.ts'

const MAX_CERTIFICATES = 4096

export class ChainCache {
  readonly #limit: number
  /** By SHA-256 of the DER, longest unused first. */
  readonly #certificates = new Map<string, Certificate>()
  readonly #signers = new WeakMap<Certificate, Uint8Array>()

  /** @param limit certificates kept; about 3 KB each */
  constructor(limit = MAX_CERTIFICATES) {
    this.#limit = limit
  }

  /** @throws CERTIFICATE_MALFORMED as `parseCertificate` */
  read(der: Uint8Array): Certificate {
    const hash = toHex(sha256(der))
    const known = this.#certificates.get(hash)
    if (known === undefined) return parseCertificate(der)
    this.#certificates.delete(hash)
    this.#certificates.set(hash, known)
    return known
  }

  /** Whether this certificate was found to be signed by this key. */
  isKnown(certificate: Certificate, issuerKey: Uint8Array): boolean {
    const signer = this.#signers.get(certificate)
    return signer !== undefined && equalBytes(signer, issuerKey)
  }

  /** @param path a valid one, from leaf to root */
  keep(path: readonly Certificate[]): void {
    for (const [depth, certificate] of path.entries()) {
      const issuer = path[depth + 1]
      // A session certificate does not come twice.
      if (issuer === undefined || !certificate.isCa || this.#signers.has(certificate)) continue
      this.#signers.set(certificate, issuer.publicKey.bytes)
      this.#certificates.set(toHex(sha256(certificate.der)), certificate)
    }
    for (const hash of this.#certificates.keys()) {
      if (this.#certificates.size <= this.#limit) break
      this.#certificates.delete(hash)
    }
  }
}
