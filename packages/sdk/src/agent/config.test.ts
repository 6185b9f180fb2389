/** `config.json`: a file that names one relay, in its old form, and files that are wrong. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Home } from '../identity/index.ts'
import { readConfig, renewConfig } from './config.ts'

const RELAY = 'wss://relay.example/v1/connect'
let folder: string
let home: Home
const file = () => join(folder, 'config.json')
const write = (config: object) => writeFileSync(file(), JSON.stringify(config), { mode: 0o600 })
const raw = () => readFileSync(file(), 'utf8')

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-config-'))
  home = Home.open(folder)
})
afterEach(() => rmSync(folder, { recursive: true }))

const old = {
  registry: 'https://registry.example',
  relay: 'wss://RELAY.example:443',
  display_name: 'Cuckoo',
  capabilities: ['travel'],
}

test('a file that names one relay is read as a list of one, and nothing else of it changes', () => {
  write(old)
  const { relay: _, ...rest } = old
  expect(readConfig(home)).toEqual({ ...rest, relays: [RELAY] })
  expect(JSON.parse(raw())).toEqual(old)
})

test('it is rewritten once, and a file in the form of today is left as its owner wrote it', () => {
  write(old)
  renewConfig(home)
  const { relay: _, ...rest } = old
  expect(JSON.parse(raw())).toEqual({ ...rest, relays: [RELAY] })
  const own = `{ "registry":"https://registry.example","capabilities":[],\n"relays":["${RELAY}","wss://RELAY.example"] }`
  writeFileSync(file(), own)
  renewConfig(home)
  expect(raw()).toBe(own)
  expect(readConfig(home).relays).toEqual([RELAY])
})

test.each([
  ['a relay that is none', { ...old, relay: 'https://relay.example' }],
  ['no relay', { registry: old.registry, capabilities: [] }],
  ['a list without one', { ...old, relay: undefined, relays: [] }],
])('a file with %s is refused and stays as it is', (_name, config) => {
  write(config)
  const before = raw()
  expect(() => renewConfig(home)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  expect(raw()).toBe(before)
})

test('without a file there is nothing to rewrite', () => {
  renewConfig(home)
  expect(() => readConfig(home)).toThrow(expect.objectContaining({ code: 'HOME_EMPTY' }))
})
