/**
 * Writes DER (X.690): bytes of a value from the bytes of its parts. Nothing is checked here; whatever is written is read back
 * by `der-reader.ts`.
 */
import { ed25519SignRaw } from '../../crypto/signing.ts'
import { concatBytes, formatTimestamp, fromHex, utf8Bytes } from '../../wire/index.ts'
import { TAG } from './der-reader.ts'

/** A value of the tag with the parts, one behind the other, for content. */
export function derValue(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = concatBytes(...parts)
  const { length } = content
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : length < 0x1_0000
          ? [tag, 0x82, length >> 8, length & 0xff]
          : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]
  return concatBytes(Uint8Array.from(header), content)
}

export function derSequence(...parts: readonly Uint8Array[]): Uint8Array {
  return derValue(TAG.sequence, ...parts)
}

export const DER_TRUE = Uint8Array.of(TAG.boolean, 1, 0xff)

/** 0 to 2^47 - 1. */
export function derNumber(value: number, tag: number = TAG.integer): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; rest > 0 || bytes.length === 0; rest = Math.floor(rest / 256))
    bytes.unshift(rest % 256)
  if ((bytes[0] ?? 0) >= 0x80) bytes.unshift(0)
  return derValue(tag, Uint8Array.from(bytes))
}

/** @param serial lower-case hex of the content octets. @throws MALFORMED when it is not */
export function derSerial(serial: string): Uint8Array {
  return derValue(TAG.integer, fromHex(serial))
}

/** @param oid dotted decimal */
export function derOid(oid: string): Uint8Array {
  const [root = 0, second = 0, ...others] = oid.split('.').map(Number)
  const bytes = [root * 40 + second, ...others].flatMap((arc) => {
    const digits = [arc & 0x7f]
    for (let rest = arc >>> 7; rest > 0; rest >>>= 7) digits.unshift((rest & 0x7f) | 0x80)
    return digits
  })
  return derValue(TAG.objectIdentifier, Uint8Array.from(bytes))
}

export function derText(tag: number, text: string): Uint8Array {
  return derValue(tag, utf8Bytes(text))
}

export function derBits(bytes: Uint8Array, unusedBits = 0): Uint8Array {
  return derValue(TAG.bitString, Uint8Array.of(unusedBits), bytes)
}

/** @param bits the numbers of the bits that are set, 0 to 8 */
export function derNamedBits(bits: readonly number[]): Uint8Array {
  const last = Math.max(...bits)
  const bytes = new Uint8Array((last >> 3) + 1)
  for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (0x80 >> (bit & 7))
  return derBits(bytes, 7 - (last & 7))
}

/**
 * UTCTime up to 2049, GeneralizedTime after it (RFC 5280 4.1.2.5).
 *
 * @param milliseconds since the epoch; cut to whole seconds. @throws INVALID_TIMESTAMP
 */
export function derTime(milliseconds: number): Uint8Array {
  const digits = formatTimestamp(milliseconds).slice(0, 19).replaceAll(/\D/g, '')
  return digits < '2050'
    ? derText(TAG.utcTime, `${digits.slice(2)}Z`)
    : derText(TAG.generalizedTime, `${digits}Z`)
}

/** @param value DER of the extension's own type */
export function derExtension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  return derSequence(derOid(id), ...(critical ? [DER_TRUE] : []), derValue(TAG.octetString, value))
}

/** id-Ed25519 and id-X25519 as AlgorithmIdentifiers: neither has parameters (RFC 8410 §3). */
export const ED25519_ALGORITHM = derSequence(derOid('1.3.101.112'))
export const X25519_ALGORITHM = derSequence(derOid('1.3.101.110'))

/** The `SEQUENCE { signed, algorithm, signature }` of certificates and CRLs. */
export function derSigned(signed: Uint8Array, secretKey: Uint8Array): Uint8Array {
  return derSequence(signed, ED25519_ALGORITHM, derBits(ed25519SignRaw(secretKey, signed)))
}
