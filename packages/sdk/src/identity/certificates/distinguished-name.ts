/**
 * Distinguished names of our profile (RFC 5280 4.1.2.4): at most one organisation, then at most one role in it (`OU`), then at
 * most one common name, each an RDN of its own, UTF8String. So a name has one spelling, and names are compared as bytes; RFC 5280 7.1 would fold case and
 * space, which only a CA that spells its own name in two ways needs.
 */
import { AttributeTypeAndValue, AttributeValue, Name, RelativeDistinguishedName } from '@peculiar/asn1-x509'
import { equalBytes } from '../../crypto/signing.ts'
import { malformed, writeDer } from './der.ts'

const OID_ORGANIZATION = '2.5.4.10'
const OID_ORGANIZATIONAL_UNIT = '2.5.4.11'
const OID_COMMON_NAME = '2.5.4.3'
/** Code points: ub-common-name and ub-organization-name of RFC 5280 A.1. */
export const MAX_NAME_LENGTH = 64

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

/** @throws CERTIFICATE_MALFORMED for an empty field, or one of more than 64 code points */
export function makeName({ organization, role, commonName }: NameFields): Name {
  const rdns: RelativeDistinguishedName[] = []
  for (const [type, text] of [
    [OID_ORGANIZATION, organization],
    [OID_ORGANIZATIONAL_UNIT, role],
    [OID_COMMON_NAME, commonName],
  ] as const) {
    if (text === undefined) continue
    checkText(text)
    const value = new AttributeValue({ utf8String: text })
    rdns.push(new RelativeDistinguishedName([new AttributeTypeAndValue({ type, value })]))
  }
  return new Name(rdns)
}

/** @throws CERTIFICATE_MALFORMED for any other attribute, order, string type or length */
export function readName(name: Name): DistinguishedName {
  const fields: Record<string, string> = {}
  const order = [OID_ORGANIZATION, OID_ORGANIZATIONAL_UNIT, OID_COMMON_NAME]
  for (const rdn of name) {
    const [attribute] = rdn
    const text = attribute?.value.utf8String
    if (rdn.length !== 1 || attribute === undefined || text === undefined)
      throw malformed('A name is not in form')
    const position = order.indexOf(attribute.type)
    if (position === -1) throw malformed('A name has an attribute that is repeated, misplaced or unknown')
    order.splice(0, position + 1)
    checkText(text)
    fields[attribute.type] = text
  }
  const organization = fields[OID_ORGANIZATION]
  const role = fields[OID_ORGANIZATIONAL_UNIT]
  const commonName = fields[OID_COMMON_NAME]
  return {
    ...(organization === undefined ? {} : { organization }),
    ...(role === undefined ? {} : { role }),
    ...(commonName === undefined ? {} : { commonName }),
    der: writeDer(name),
    rdns: name.map((rdn) => writeDer(rdn)),
  }
}

function checkText(text: string): void {
  const length = Array.from(text).length
  if (length < 1 || length > MAX_NAME_LENGTH) throw malformed('A name is empty or longer than 64 characters')
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
