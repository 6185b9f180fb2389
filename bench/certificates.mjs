/**
 * Validating a chain against the bare signature checks in it: cold, and for an agent whose certificates were seen before.
 * Run after a build: node bench/certificates.mjs
 *
 * The chain is the longest a KNOCK carries: session, agent, organisation, under intermediate and root, with three revocation
 * lists of a thousand entries at hand. The bound is libsodium's signature checks alone, over bytes of the same length: four
 * cold, and one when the three certificates above the session's are cached.
 */
import sodium from 'libsodium-wrappers-sumo'
import { ed25519KeyPair, systemRandom, x25519KeyPair } from '../packages/sdk/dist/crypto/index.js'
import * as certificates from '../packages/sdk/dist/identity/index.js'
import { compare, printComparison, printMachine } from './lib/measure.mjs'

await sodium.ready

const NOW = Date.now()
const LISTED = 1000
const key = () => ed25519KeyPair(systemRandom(32))
const terms = () => ({
  serial: certificates.newSerial(systemRandom),
  notBefore: NOW - 300_000,
  notAfter: NOW + 86_400_000,
})
/** @param {Uint8Array} der @param {import('../packages/sdk/dist/crypto/index.js').KeyPair} signing */
const issuer = (der, signing) => ({ certificate: certificates.parseCertificate(der), signing })

const rootKey = key()
const root = issuer(certificates.issueRoot({ name: 'Example', ...terms() }, rootKey), rootKey)
const intermediateKey = key()
const intermediate = issuer(
  certificates.issueIntermediate({ name: 'Example', publicKey: intermediateKey.publicKey, ...terms() }, root),
  intermediateKey,
)
const organizationKey = key()
const organization = issuer(
  certificates.issueOrganization(
    { organization: 'Acme', domain: 'acme.example', publicKey: organizationKey.publicKey, ...terms() },
    intermediate,
  ),
  organizationKey,
)
const agentKey = key()
const agent = issuer(
  certificates.issueAgent({ publicKey: agentKey.publicKey, displayName: 'Alice', ...terms() }, organization),
  agentKey,
)
const sessionKey = x25519KeyPair(systemRandom(32)).publicKey
const session = certificates.issueSession({ publicKey: sessionKey, ...terms() }, agent)

const lists = new Map(
  [root, intermediate, organization].map((issuedBy) => {
    const entries = Array.from({ length: LISTED }, () => ({
      serial: certificates.newSerial(systemRandom),
      revokedAt: NOW,
      reason: /** @type {const} */ ('superseded'),
    }))
    const dates = { number: 1, thisUpdate: NOW - 1000, nextUpdate: NOW + 3_600_000 }
    const crl = certificates.parseCrl(certificates.issueCrl({ entries, ...dates }, issuedBy))
    return [crl.authorityKeyId, crl]
  }),
)

const chain = [session, agent.certificate.der, organization.certificate.der]
const anchor = { root: root.certificate, intermediates: [intermediate.certificate] }
const amid = certificates.amidFromPublicKey(agentKey.publicKey)
/** @param {import('../packages/sdk/dist/identity/index.js').ChainCache} [cache] */
function validate(cache) {
  const verdict = certificates.validatePath(chain, anchor, {
    now: NOW,
    amid,
    sessionKey,
    cache,
    crlOf: (keyId) => lists.get(keyId),
  })
  if (!verdict.valid || verdict.revocation !== 'good')
    throw new Error('the benchmark does not do what it measures')
}
const cache = new certificates.ChainCache()
validate(cache)

const signed = certificates.parseCertificate(session)
/** @param {number} count */
function bareChecks(count) {
  for (let index = 0; index < count; index++) {
    sodium.crypto_sign_verify_detached(signed.signature, signed.signed, agentKey.publicKey)
  }
}

printMachine()
console.log(`libsodium ${sodium.SODIUM_VERSION_STRING} (WebAssembly)\n`)
printComparison(
  'chain cold: three certificates and an intermediate',
  compare(
    () => validate(),
    () => bareChecks(4),
  ),
)
printComparison(
  'chain cached: all but the session certificate',
  compare(
    () => validate(cache),
    () => bareChecks(1),
  ),
)
printComparison(
  `a list of ${LISTED} entries read, beside one check`,
  compare(
    () => {
      for (const { der } of lists.values()) certificates.parseCrl(der)
    },
    () => bareChecks(lists.size),
  ),
)
