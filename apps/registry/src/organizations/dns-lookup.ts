/**
 * Asking the DNS at several resolvers at once: the answer counts when all of them give the same. One that lies, or whose
 * cache somebody poisoned, can then keep an organisation out, and let none in.
 */
import { Resolver } from 'node:dns/promises'
import { isIP } from 'node:net'
import { AgentMeshError } from '@agentmesh/sdk/wire'
import { PROOF_PREFIX, proofHost, shown } from './domain-proof.ts'

/** A try of one resolver; two tries, and then some for TCP. */
const TRY_MILLISECONDS = 2_000
const TRIES = 2
const WHOLE_MILLISECONDS = 8_000
const MIN_RESOLVERS = 2
const DNS_PORT = 53
/** Of one host; a proof is about 160 characters. */
const MAX_RECORDS = 16
const MAX_RECORD_LENGTH = 1_024
/** Of each, where those of several resolvers stand side by side. */
const SHOWN_LENGTH = 60

/** `1.1.1.1`, `1.1.1.1:5353`, `2606:4700::1111` or `[2606:4700::1111]:53`. */
export type ResolverAddress = string

export const DEFAULT_RESOLVERS: readonly ResolverAddress[] = ['1.1.1.1', '9.9.9.9']

type Finding =
  | { readonly kind: 'records'; readonly records: readonly string[] }
  /** No such host or record, or a resolver that could not find out. */
  | { readonly kind: 'none'; readonly why: string }
  | { readonly kind: 'silent'; readonly why: string }

export interface DnsLookup {
  /**
   * The `agentmesh-verify=` records of a domain, as all resolvers see them.
   *
   * @throws DOMAIN_PROOF_DISPUTED when they differ; DNS_UNAVAILABLE when one does not answer
   */
  proofs(domain: string): Promise<string[]>
}

/** @throws MALFORMED for fewer than two different addresses */
export function dnsLookup(
  addresses: readonly ResolverAddress[],
  waiting: { readonly tryMilliseconds?: number; readonly wholeMilliseconds?: number } = {},
): DnsLookup {
  const distinct = new Set(addresses.map(withPort))
  if (distinct.size < MIN_RESOLVERS || distinct.size !== addresses.length) {
    throw new AgentMeshError('MALFORMED', 'A domain is checked at two different resolvers or more')
  }
  return {
    async proofs(domain) {
      const findings = await Promise.all(
        [...distinct].map(async (address) => ({ address, finding: await ask(address, domain, waiting) })),
      )
      for (const { address, finding } of findings) {
        if (finding.kind !== 'silent') continue
        throw new AgentMeshError(
          'DNS_UNAVAILABLE',
          `The resolver ${address} gave no answer (${finding.why})`,
          {
            operation: `look up ${proofHost(domain)}`,
          },
        )
      }
      const texts = findings.map(({ finding }) => (finding.kind === 'records' ? finding.records : []))
      const [first = []] = texts
      if (texts.some((records) => records.join('\n') !== first.join('\n'))) {
        const seen = findings.map(({ address, finding }) => `${address} sees ${describe(finding)}`)
        throw new AgentMeshError(
          'DOMAIN_PROOF_DISPUTED',
          `The resolvers do not agree on ${proofHost(domain)}: ${seen.join('; ')}`,
        )
      }
      return [...first]
    },
  }
}

async function ask(
  address: string,
  domain: string,
  { tryMilliseconds = TRY_MILLISECONDS, wholeMilliseconds = WHOLE_MILLISECONDS },
): Promise<Finding> {
  const resolver = new Resolver({ timeout: tryMilliseconds, tries: TRIES })
  resolver.setServers([address])
  const timer = setTimeout(() => resolver.cancel(), wholeMilliseconds)
  try {
    const answers = await resolver.resolveTxt(proofHost(domain))
    const records = answers
      .map((strings) => strings.join(''))
      .filter((text) => text.startsWith(PROOF_PREFIX))
      .map((text) => text.slice(0, MAX_RECORD_LENGTH))
      .toSorted()
      .slice(0, MAX_RECORDS)
    return records.length === 0 ? { kind: 'none', why: 'no such record' } : { kind: 'records', records }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    const kind = ANSWERED.has(code) ? 'none' : 'silent'
    return { kind, why: code }
  } finally {
    clearTimeout(timer)
  }
}

/** What a resolver says about a name, as opposed to saying nothing. */
const ANSWERED: ReadonlySet<string> = new Set([
  'ENODATA',
  'ENOTFOUND',
  'ESERVFAIL',
  'EREFUSED',
  'EFORMERR',
  'ENOTIMP',
])

function describe(finding: Finding): string {
  return finding.kind === 'records'
    ? finding.records.map((text) => shown(text, SHOWN_LENGTH)).join(' and ')
    : `none (${finding.why})`
}

/** @throws MALFORMED unless an IP address, with a port or without */
function withPort(text: string): string {
  const bare = isIP(text)
  if (bare !== 0) return bare === 6 ? `[${text}]:${DNS_PORT}` : `${text}:${DNS_PORT}`
  const [, bracketed, plain, port = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? []
  const address = bracketed ?? plain ?? ''
  const family = isIP(address)
  if (
    family === 0 ||
    Number(port) < 1 ||
    Number(port) > 65_535 ||
    (family === 6) !== (bracketed !== undefined)
  ) {
    throw new AgentMeshError('MALFORMED', 'A resolver is an IP address, or one with a port')
  }
  return text
}
