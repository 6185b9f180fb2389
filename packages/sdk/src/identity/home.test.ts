import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { utf8Bytes, utf8Text } from '../wire/index.ts'
import { Home } from './home.ts'
import { outcome } from '../wire/test-support.ts'

let root: string
let path: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'agentmesh-home-'))
  path = join(root, 'home')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const mode = (file: string) => statSync(file).mode & 0o777
const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : utf8Text(bytes))

describe('the home folder', () => {
  it('is made 0700, with folders 0700 and files 0600, whatever the umask', () => {
    const umask = process.umask(0)
    try {
      const home = Home.create(path)
      home.writeFile('logs/today.jsonl', utf8Bytes('{}'))
      home.writeFolder('keys', { 'a.key': utf8Bytes('a') })
    } finally {
      process.umask(umask)
    }
    expect(mode(path)).toBe(0o700)
    expect(mode(join(path, 'logs'))).toBe(0o700)
    expect(mode(join(path, 'logs/today.jsonl'))).toBe(0o600)
    expect(mode(join(path, 'keys'))).toBe(0o700)
    expect(mode(join(path, 'keys/a.key'))).toBe(0o600)
  })

  it('is not there before it is made', () => {
    expect(outcome(() => Home.open(path))).toBe('HOME_EMPTY')
    expect(existsSync(path)).toBe(false)
  })

  it('is tightened when empty, refused when others could read what it holds', () => {
    mkdirSync(path, { mode: 0o755 })
    chmodSync(path, 0o755)
    expect(outcome(() => Home.open(path))).toBe('HOME_UNSAFE')
    Home.create(path)
    expect(mode(path)).toBe(0o700)

    writeFileSync(join(path, 'policy.json'), '{}', { mode: 0o600 })
    chmodSync(path, 0o750)
    expect(outcome(() => Home.create(path))).toBe('HOME_UNSAFE')
    expect(mode(path)).toBe(0o750)
  })

  it('refuses links: the home, a folder in it, a file in it', () => {
    const elsewhere = join(root, 'elsewhere')
    mkdirSync(elsewhere, { mode: 0o700 })
    symlinkSync(elsewhere, path)
    expect(outcome(() => Home.create(path))).toBe('HOME_UNSAFE')
    expect(outcome(() => Home.open(path))).toBe('HOME_UNSAFE')

    const home = Home.create(join(root, 'real'))
    symlinkSync(elsewhere, join(home.path, 'logs'))
    expect(outcome(() => home.writeFile('logs/x', utf8Bytes('x')))).toBe('HOME_UNSAFE')
    expect(outcome(() => home.readFile('logs/x'))).toBe('HOME_UNSAFE')
    expect(outcome(() => home.folder('logs'))).toBe('HOME_UNSAFE')

    writeFileSync(join(elsewhere, 'secret'), 'secret', { mode: 0o600 })
    symlinkSync(join(elsewhere, 'secret'), join(home.path, 'link'))
    expect(outcome(() => home.readFile('link'))).toBe('HOME_UNSAFE')
    expect(outcome(() => home.writeFile('link', utf8Bytes('x')))).toBe('HOME_UNSAFE')
    expect(readFileSync(join(elsewhere, 'secret'), 'utf8')).toBe('secret')
    expect(readdirSync(elsewhere)).toEqual(['secret'])
  })

  it('refuses a file that others can read, and a folder in place of a file', () => {
    const home = Home.create(path)
    home.writeFile('a.key', utf8Bytes('a'))
    chmodSync(join(path, 'a.key'), 0o640)
    expect(outcome(() => home.readFile('a.key'))).toBe('HOME_UNSAFE')
    mkdirSync(join(path, 'folder'), { mode: 0o700 })
    expect(outcome(() => home.readFile('folder'))).toBe('HOME_UNSAFE')
  })

  it.each([
    '..',
    '../x',
    'keys/../../x',
    '/etc/passwd',
    'keys//x',
    'keys/',
    '',
    '.hidden',
    'a\0b',
    'a\\b',
    'C:x',
    'a b',
    'x'.repeat(200),
  ])('refuses the name %j before it touches a path', (name) => {
    const home = Home.create(path)
    for (const call of [
      () => home.readFile(name),
      () => home.writeFile(name, utf8Bytes('x')),
      () => home.folder(name),
      () => home.file(name),
      () => home.has(name),
      () => home.writeFolder(name, {}),
      () => home.writeFolder('keys', { [name]: utf8Bytes('x') }),
    ]) {
      expect(outcome(call)).toBe('INVALID_ID')
    }
    expect(readdirSync(path)).toEqual([])
    expect(readdirSync(root)).toEqual(['home'])
  })

  it('gives back what was written, and nothing for what was not', () => {
    const home = Home.create(path)
    expect(home.readFile('config.json')).toBeUndefined()
    expect(home.readFile('none/config.json')).toBeUndefined()
    home.writeFile('config.json', utf8Bytes('one'))
    home.writeFile('config.json', utf8Bytes('two'))
    expect(text(Home.open(path).readFile('config.json'))).toBe('two')
    expect(readdirSync(path)).toEqual(['config.json'])
  })

  it('never shows a file that a crash left half written', () => {
    const home = Home.create(path)
    home.writeFile('config.json', utf8Bytes('whole'))
    writeFileSync(join(path, '.new-0123456789abcdef'), 'ha', { mode: 0o600 })
    expect(text(Home.open(path).readFile('config.json'))).toBe('whole')
  })

  it('keeps the old file and leaves no rest when writing fails', () => {
    const home = Home.create(path)
    mkdirSync(join(path, 'taken'), { mode: 0o700 })
    expect(outcome(() => home.writeFile('taken', utf8Bytes('x')))).toBe('HOME_UNSAFE')
    expect(outcome(() => home.writeFolder('taken/deeper/x', {}))).toBe('HOME_FAILED')
    expect(readdirSync(path)).toEqual(['taken'])
  })

  it('makes a folder once, with all its files', () => {
    const home = Home.create(path)
    home.writeFolder('keys', { a: utf8Bytes('1'), b: utf8Bytes('2') })
    expect(outcome(() => home.writeFolder('keys', { a: utf8Bytes('3') }))).toBe('HOME_EXISTS')
    expect(text(home.readFile('keys/a'))).toBe('1')
    expect(readdirSync(path)).toEqual(['keys'])
  })

  it('refuses to read more than 1 MiB', () => {
    const home = Home.create(path)
    home.writeFile('big', new Uint8Array(1024 * 1024 + 1))
    expect(outcome(() => home.readFile('big'))).toBe('HOME_DAMAGED')
  })
})
