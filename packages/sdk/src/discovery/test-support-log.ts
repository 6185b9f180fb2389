/** A registry as an auditor sees it: honest about `entries`, unless a test puts a lie in their place. */
import { ed25519KeyPair, sha256, type KeyPair } from '../crypto/signing.ts'
import {
  certificateText,
  consistencyPath,
  encodeLogEntry,
  issueAgent,
  issueIntermediate,
  issueRoot,
  issueService,
  leafHash,
  parseCertificate,
  rootOf,
  signTreeHead,
  type Issuer,
} from '../identity/index.ts'
import {
  canonicalBytes,
  formatTimestamp,
  toBase64,
  toHex,
  utf8Bytes,
  type TreeHead,
  type TrustDocument,
} from '../wire/index.ts'

const HOUR = 3_600_000

interface Reply {
  readonly status: number
  readonly body: object
}

export class FakeRegistry {
  readonly name: string
  readonly now: number
  readonly trust: TrustDocument
  readonly fingerprint: string
  readonly serviceKey: KeyPair
  readonly #issuer: Issuer
  entries: Uint8Array[] = []
  /** In the place of what is true, by the path behind `/v1/registry/`. */
  lies: Record<string, (query: URLSearchParams, truth: Reply) => Reply> = {}
  readonly asked: string[] = []

  constructor(name: string, now: number) {
    this.name = name
    this.now = now
    const keyOf = (what: string) => ed25519KeyPair(sha256(utf8Bytes(`${name} ${what}`)))
    const terms = (serial: string) => ({ serial, notBefore: now - 24 * HOUR, notAfter: now + 24 * HOUR })
    const root = issueRoot({ name, ...terms('41') }, keyOf('root'))
    const rootIssuer = { certificate: parseCertificate(root), signing: keyOf('root') }
    const fields = { name, publicKey: keyOf('issuer').publicKey, ...terms('42') }
    const intermediate = parseCertificate(issueIntermediate(fields, rootIssuer))
    this.#issuer = { certificate: intermediate, signing: keyOf('issuer') }
    this.serviceKey = keyOf('service')
    const url = `https://${name}.example`
    const service = issueService(
      { name, url, publicKey: this.serviceKey.publicKey, ...terms('43') },
      this.#issuer,
    )
    this.trust = {
      name,
      url,
      root: toBase64(root),
      intermediates: [certificateText(intermediate)],
      service_certificate: toBase64(service),
    }
    this.fingerprint = toHex(sha256(root))
  }

  /** Certifies an agent and logs it. */
  certify(name: string): void {
    const { publicKey } = ed25519KeyPair(sha256(utf8Bytes(name)))
    const serial = toHex(sha256(utf8Bytes(name)).subarray(0, 8).with(0, 0x40))
    const terms = { serial, notBefore: this.now - HOUR, notAfter: this.now + HOUR }
    const content = issueAgent({ publicKey, displayName: name, ...terms }, this.#issuer)
    this.entries.push(encodeLogEntry({ kind: 'certificate', timestamp: this.now, content }))
  }

  /** Logs a revocation. */
  revoke(serial: string): void {
    const content = canonicalBytes({
      type: 'revocation',
      issuer: this.#issuer.certificate.keyId,
      serial,
      reason: 'keyCompromise',
      revoked_at: formatTimestamp(this.now),
    })
    this.entries.push(encodeLogEntry({ kind: 'revocation', timestamp: this.now, content }))
  }

  head(
    entries: readonly Uint8Array[] = this.entries,
    timestamp = this.now,
    fingerprint = this.fingerprint,
  ): TreeHead {
    const rootHash = rootOf(entries.map(leafHash))
    const state = { size: entries.length, rootHash, timestamp }
    return signTreeHead({ fingerprint, serviceKey: this.serviceKey }, state)
  }

  /** @param target path and query of a request */
  answer(target: string): Reply {
    const url = new URL(target, 'http://registry')
    const path = url.pathname.slice('/v1/registry/'.length)
    this.asked.push(path)
    const truth = this.#truth(path, url.searchParams)
    return this.lies[path]?.(url.searchParams, truth) ?? truth
  }

  #truth(path: string, query: URLSearchParams): Reply {
    const number = (name: string): number => Number(query.get(name))
    switch (path) {
      case 'trust':
        return { status: 200, body: this.trust }
      case 'log/head':
        return { status: 200, body: this.head() }
      case 'log/consistency': {
        const [from, to] = [number('from'), number('to')]
        const hashes = consistencyPath(from, this.entries.slice(0, to).map(leafHash))
        return { status: 200, body: { from, to, path: hashes.map(toBase64) } }
      }
      case 'log/entries': {
        const start = number('start')
        // Fewer than asked for, as any registry may give.
        const page = this.entries.slice(start, start + Math.min(number('limit'), 3))
        return { status: 200, body: { start, entries: page.map(toBase64) } }
      }
      default:
        return { status: 404, body: { code: 'NOT_FOUND', message: 'There is nothing at this address' } }
    }
  }
}
