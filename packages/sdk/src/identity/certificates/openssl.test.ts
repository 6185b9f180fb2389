/**
 * The verdict of our path validation beside that of `openssl verify`, chain by chain.
 *
 * openssl is asked twice where a session certificate leads: for the whole path without lists, and for the agent's with
 * `-crl_check_all`, since agents sign no lists (spec/certificates.md 3). A case where the two verdicts differ says why; ours
 * is then the stricter one, always.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toBase64 } from '../../wire/index.ts'
import { NOW } from '../test-support.ts'
import { parseCertificate } from './certificate.ts'
import { parseCrl } from './crl.ts'
import { MAX_CHAIN_LENGTH, validatePath } from './path-validation.ts'
import type { ChainCase } from './test-support-chain-case.ts'
import { CHAIN_CASES } from './test-support-vectors.ts'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-openssl-'))
})
afterAll(() => {
  rmSync(folder, { recursive: true })
})

function pem(kind: 'CERTIFICATE' | 'X509 CRL', ders: readonly Uint8Array[]): string {
  return ders
    .map(
      (der) =>
        `-----BEGIN ${kind}-----\n${toBase64(der).replaceAll(/.{64}/g, '$&\n')}\n-----END ${kind}-----\n`,
    )
    .join('')
}

function verify(
  root: Uint8Array,
  others: readonly Uint8Array[],
  leaf: Uint8Array,
  now: number,
  crls?: Uint8Array[],
) {
  const file = (name: string, content: string) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }
  const args = [
    'verify',
    '-x509_strict',
    '-attime',
    String(Math.floor(now / 1000)),
    '-no-CApath',
    '-no-CAstore',
  ]
  args.push('-CAfile', file('root.pem', pem('CERTIFICATE', [root])))
  if (others.length > 0) args.push('-untrusted', file('others.pem', pem('CERTIFICATE', others)))
  if (crls !== undefined) args.push('-crl_check_all')
  if (crls !== undefined && crls.length > 0) args.push('-CRLfile', file('crls.pem', pem('X509 CRL', crls)))
  args.push(file('leaf.pem', pem('CERTIFICATE', [leaf])))
  const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
  return { isGood: status === 0, why: stderr }
}

/** Good means: valid, and no certificate revoked or of unknown revocation. */
function opensslVerdict({ chain, root, intermediates, crls, now = NOW, sessionKey }: ChainCase) {
  const [leaf, ...others] = chain
  if (leaf === undefined) return { isGood: false, why: 'no certificate' }
  const [agent, ...above] = sessionKey === undefined ? chain : others
  const whole = verify(root, [...others, ...intermediates], leaf, now)
  if (!whole.isGood || agent === undefined) return whole
  return verify(root, [...above, ...intermediates], agent, now, [...crls])
}

function ourVerdict({ chain, root, intermediates, crls, now = NOW, sessionKey, amid }: ChainCase) {
  const lists = crls.flatMap((der) => {
    try {
      return [parseCrl(der)]
    } catch {
      return []
    }
  })
  const anchor = {
    root: parseCertificate(root),
    intermediates: intermediates.map((der) => parseCertificate(der)),
  }
  return validatePath(chain, anchor, {
    now,
    amid,
    ...(sessionKey === undefined ? {} : { sessionKey }),
    crlOf: (keyId) => lists.find(({ authorityKeyId }) => authorityKeyId === keyId),
  })
}

it('has the openssl program, without which nobody judges our verdicts, wherever CI runs it', () => {
  expect(hasOpenssl || process.env['CI'] !== 'true').toBe(true)
})

describe.skipIf(!hasOpenssl)('the verdict beside openssl’s', () => {
  it.each(CHAIN_CASES)('$name', (chainCase) => {
    const verdict = ourVerdict(chainCase)
    const isGood = verdict.valid && verdict.revocation === 'good'
    expect(verdict.failure?.code ?? verdict.revocation).toBe(chainCase.verdict)
    expect(isGood).toBe(chainCase.verdict === 'good')

    const openssl = opensslVerdict(chainCase)
    if (chainCase.differs === undefined) expect(openssl).toMatchObject({ isGood })
    else {
      // Where we differ, we are the stricter of the two.
      expect({ isGood, openssl: openssl.isGood }).toEqual({ isGood: false, openssl: true })
    }
  })
})

it('has more than sixty chains, a good one for each shape, and a name for each', () => {
  expect(CHAIN_CASES.length).toBeGreaterThan(60)
  expect(new Set(CHAIN_CASES.map(({ name }) => name)).size).toBe(CHAIN_CASES.length)
  expect(MAX_CHAIN_LENGTH).toBe(4)
})
