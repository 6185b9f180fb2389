/**
 * DER in and out, over the ASN.1 types of @peculiar/asn1-x509 (X.690).
 *
 * DER has one spelling of every value, so what is read must come out again as the same bytes: that refuses BER lengths,
 * defaults written out, fractions of a second, bytes behind the end and whatever the reader would skip, in one comparison.
 * What the library carries as opaque bytes (serial numbers, ANY) is checked by whoever reads it.
 */
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import { AlgorithmIdentifier, Extension, Time } from '@peculiar/asn1-x509'
import { equalBytes } from '../../crypto/signing.ts'
import { AgentMeshError, checkTimestamp, fromHex, toHex } from '../../wire/index.ts'

/** RFC 8410: neither algorithm has parameters, and X25519 is for keys only. */
export const OID_ED25519 = '1.3.101.112'
export const OID_X25519 = '1.3.101.110'

/** Octets of a serial number at most (RFC 5280 4.1.2.2). */
const MAX_SERIAL_BYTES = 20
/** Years up to this one are UTCTime, later ones GeneralizedTime (RFC 5280 4.1.2.5). */
const LAST_UTC_TIME_YEAR = 2049

export function malformed(why: string, cause?: unknown): AgentMeshError {
  return new AgentMeshError('CERTIFICATE_MALFORMED', why, { operation: 'read a certificate', cause })
}

/** @throws CERTIFICATE_MALFORMED unless the bytes are the DER of one value of the type, and nothing else. */
export function readDer<T>(der: Uint8Array, type: new () => T): T {
  let value: T
  let again: Uint8Array
  try {
    value = AsnConvert.parse(der, type)
    again = writeDer(value)
  } catch (cause) {
    throw malformed('Not the DER of its type', cause)
  }
  if (again.length !== der.length || !equalBytes(again, der)) throw malformed('Not canonical DER')
  return value
}

export function writeDer(value: unknown): Uint8Array {
  return new Uint8Array(AsnConvert.serialize(value))
}

export function bufferOf(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer
}

export function ed25519Algorithm(): AlgorithmIdentifier {
  return new AlgorithmIdentifier({ algorithm: OID_ED25519 })
}

/** @throws CERTIFICATE_MALFORMED unless it is Ed25519 without parameters. */
export function checkEd25519(...algorithms: readonly AlgorithmIdentifier[]): void {
  for (const { algorithm, parameters } of algorithms) {
    if (algorithm !== OID_ED25519 || parameters !== undefined) throw malformed('Not signed with Ed25519')
  }
}

// --- times and serial numbers ---------------------------------------------------------------------------------------

/** Milliseconds since the epoch. @throws CERTIFICATE_MALFORMED for the other of the two types than the year asks for. */
export function readTime(time: Time): number {
  const isUtcTime = time.utcTime !== undefined
  const date = time.getTime()
  if (isUtcTime !== date.getUTCFullYear() <= LAST_UTC_TIME_YEAR)
    throw malformed('A time is of the wrong type')
  try {
    return checkTimestamp(date.getTime())
  } catch (cause) {
    throw malformed('A time is out of range', cause)
  }
}

/** Cuts milliseconds off. @throws INVALID_TIMESTAMP */
export function makeTime(milliseconds: number): Time {
  return new Time(new Date(checkTimestamp(milliseconds)))
}

/** Lower-case hex of the content octets. @throws CERTIFICATE_MALFORMED unless positive, minimal and at most 20 octets. */
export function readSerial(content: ArrayBuffer): string {
  const bytes = new Uint8Array(content)
  const [first = 0, second = 0] = bytes
  const isPositive = first < 0x80 && bytes.some((byte) => byte !== 0)
  const isMinimal = first !== 0 || second >= 0x80
  if (bytes.length > MAX_SERIAL_BYTES || !isPositive || !isMinimal) {
    throw malformed('The serial number is not a positive integer of at most 20 octets')
  }
  return toHex(bytes)
}

/** @throws CERTIFICATE_MALFORMED as `readSerial`, MALFORMED for what is not lower-case hex */
export function makeSerial(serial: string): ArrayBuffer {
  const content = bufferOf(fromHex(serial))
  readSerial(content)
  return content
}

// --- extensions -----------------------------------------------------------------------------------------------------

export function makeExtension(id: string, critical: boolean, value: unknown): Extension {
  return new Extension({ extnID: id, critical, extnValue: new OctetString(writeDer(value)) })
}

/** By id. @throws CERTIFICATE_MALFORMED when one stands there twice (RFC 5280 4.2). */
export function extensionsById(extensions: readonly Extension[]): ReadonlyMap<string, Extension> {
  const byId = new Map(extensions.map((extension) => [extension.extnID, extension]))
  if (byId.size !== extensions.length) throw malformed('An extension stands there twice')
  return byId
}

export function extensionValue(extension: Extension): Uint8Array {
  return new Uint8Array(extension.extnValue.buffer)
}
