import { expect, it } from 'vitest'
import { isAgentMeshError } from '@agentmesh/sdk/wire'
import { dnsLookup } from './dns-lookup.ts'

function refusal(...addresses: string[]): string {
  try {
    dnsLookup(addresses)
    return 'taken'
  } catch (error) {
    if (!isAgentMeshError(error)) throw error
    return error.code
  }
}

it.each([
  ['none', []],
  ['one', ['1.1.1.1']],
  ['one twice', ['1.1.1.1', '1.1.1.1']],
  ['one twice, with its port spelled out', ['1.1.1.1', '1.1.1.1:53']],
  ['two, of which one stands twice', ['1.1.1.1', '9.9.9.9', '9.9.9.9:53']],
  ['one twice, in IPv6', ['[2606:4700:4700::1111]:53', '2606:4700:4700::1111']],
])('a domain is not checked at %s', (_name, addresses) => {
  expect(refusal(...addresses)).toBe('MALFORMED')
})

it.each([
  ['two addresses', ['1.1.1.1', '9.9.9.9']],
  ['two ports of one machine', ['127.0.0.1:5301', '127.0.0.1:5302']],
])('a domain is checked at %s', (_name, addresses) => {
  expect(refusal(...addresses)).toBe('taken')
})
