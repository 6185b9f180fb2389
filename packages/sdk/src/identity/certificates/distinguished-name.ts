/**
 * Distinguished names of our profile (RFC 5280 4.1.2.4): at most one organisation, then at most one role in it (`OU`), then at
 * most one common name, each an RDN of its own, UTF8String. So a name has one spelling, and names are compared as bytes;
 * RFC 5280 7.1 would fold case and space, which only a CA that spells its own name in two ways needs.
 */
import { equalBytes } from '../../crypto/signing.ts'
import { utf8Bytes } from '../../wire/index.ts'
import { DerReader, malformed, TAG, utf8TextOf } from './der-reader.ts'
import { derOid, derSequence, derText, derValue } from './der-writer.ts'

const OID_ORGANIZATION = '2.5.4.10'
const OID_ORGANIZATIONAL_UNIT = '2.5.4.11'
const OID_COMMON_NAME = '2.5.4.3'
/** Of UTF-8 in each field: within the 64 characters of RFC 5280 A.1, and a whole chain has to fit in a KNOCK. */
export const MAX_NAME_BYTES = 64
/** Of a role, which stands in the KNOCK beside the longest of the others. */
export const MAX_ROLE_BYTES = 32

export interface NameFields {
  readonly organization?: string | undefined
  /** What the organisation lets its agent be. */
  readonly role?: string | undefined
  readonly commonName?: string | undefined
}

/** Text in it comes from whoever was certified: escape before showing. */
export interface DistinguishedName extends NameFields {
  /** DER of the name, and of each RDN in it. */
  readonly der: Uint8Array
  readonly rdns: readonly Uint8Array[]
}

/** DER of the name. @throws CERTIFICATE_MALFORMED for an empty field, or one that is too long */
export function makeName({ organization, role, commonName }: NameFields): Uint8Array {
  const rdns: Uint8Array[] = []
  for (const [type, text] of [
    [OID_ORGANIZATION, organization],
    [OID_ORGANIZATIONAL_UNIT, role],
    [OID_COMMON_NAME, commonName],
  ] as const) {
    if (text === undefined) continue
    checkText(type, text)
    rdns.push(derValue(TAG.set, derSequence(derOid(type), derText(TAG.utf8String, text))))
  }
  return derSequence(...rdns)
}

/** @param der of a Name. @throws CERTIFICATE_MALFORMED for any other attribute, order, string type or length */
export function readName(der: Uint8Array): DistinguishedName {
  const rdns: Uint8Array[] = []
  const fields: Record<string, string> = {}
  const order = [OID_ORGANIZATION, OID_ORGANIZATIONAL_UNIT, OID_COMMON_NAME]
  const name = new DerReader(der).enter()
  while (!name.isAtEnd) {
    const rdn = name.whole(TAG.set).slice()
    const set = new DerReader(rdn).enter(TAG.set)
    const attribute = set.enter()
    const position = order.indexOf(attribute.oid())
    const [type] = order.splice(0, position + 1).slice(-1)
    if (type === undefined) throw malformed('A name has an attribute that is repeated, misplaced or unknown')
    const text = utf8TextOf(attribute.content(TAG.utf8String))
    attribute.end()
    set.end()
    checkText(type, text)
    fields[type] = text
    rdns.push(rdn)
  }
  const organization = fields[OID_ORGANIZATION]
  const role = fields[OID_ORGANIZATIONAL_UNIT]
  const commonName = fields[OID_COMMON_NAME]
  return {
    ...(organization === undefined ? {} : { organization }),
    ...(role === undefined ? {} : { role }),
    ...(commonName === undefined ? {} : { commonName }),
    der: der.slice(),
    rdns,
  }
}

function checkText(type: string, text: string): void {
  const { length } = utf8Bytes(text)
  const limit = type === OID_ORGANIZATIONAL_UNIT ? MAX_ROLE_BYTES : MAX_NAME_BYTES
  if (length < 1 || length > limit) throw malformed(`A name is empty or longer than ${limit} bytes`)
}

export function equalNames(one: DistinguishedName, other: DistinguishedName): boolean {
  return one.der.length === other.der.length && equalBytes(one.der, other.der)
}

/** Whether `name` begins with the RDNs of `base`: directoryName constraints (RFC 5280 4.2.1.10, 7.1). */
export function isWithin(name: DistinguishedName, base: DistinguishedName): boolean {
  return base.rdns.every((rdn, index) => {
    const own = name.rdns[index]
    return own !== undefined && own.length === rdn.length && equalBytes(own, rdn)
  })
}
