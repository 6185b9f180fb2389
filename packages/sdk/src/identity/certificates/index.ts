/** X.509 certificates (DESIGN §8, spec/certificates.md): reading, issuing, revoking, validating a path, and whom to trust. */
export {
  certificateFingerprint,
  certificateFromText,
  certificateText,
  checkDnsName,
  isSignedBy,
  keyIdOf,
  MAX_CERTIFICATE_BYTES,
  parseCertificate,
} from './certificate.ts'
export type { Certificate, KeyUsageName, NameConstraints, PublicKey } from './certificate.ts'
export * from './chain-cache.ts'
export * from './crl.ts'
export { MAX_NAME_BYTES, MAX_ROLE_BYTES } from './distinguished-name.ts'
export type { DistinguishedName, NameFields } from './distinguished-name.ts'
export {
  CERTIFICATE_LIFETIMES,
  issueAgent,
  issueIntermediate,
  issueOrganization,
  issueRoot,
  issueService,
  issueSession,
  newSerial,
} from './issue.ts'
export type { Issuer, IssueTerms } from './issue.ts'
export { kindOf } from './certificate-kind.ts'
export type { CertificateKind } from './certificate-kind.ts'
export { MAX_CHAIN_LENGTH, validatePath } from './path-validation.ts'
export type {
  PathAnchor,
  PathContext,
  PathFailure,
  PathFailureCode,
  PathVerdict,
  RevocationState,
} from './path-validation.ts'
export * from './trusted-registry.ts'
