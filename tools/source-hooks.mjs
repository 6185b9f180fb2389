/**
 * Module hooks that let Node run the sources: `.ts` files lose their types, and workspace names lead to sources as they do
 * in the tests. A tool that registers them runs what the tests run, not what was built last.
 *
 *     register('./source-hooks.mjs', import.meta.url)
 *
 * What a file becomes is kept under node_modules/.cache by what it was, since every thread of a tool asks for all of them.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { sourceAliases } from './workspaces.mjs'

const CACHE = fileURLToPath(new URL('../node_modules/.cache/agentmesh-sources/', import.meta.url))
const OWN = readFileSync(fileURLToPath(import.meta.url), 'utf8')

const aliases = sourceAliases()

export function resolve(specifier, context, next) {
  const source = aliases[specifier]
  return source === undefined ? next(specifier, context) : next(pathToFileURL(source).href, context)
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const fileName = fileURLToPath(url)
  return { format: 'module', source: await withoutTypes(fileName), shortCircuit: true }
}

async function withoutTypes(fileName) {
  const text = readFileSync(fileName, 'utf8')
  // The map inside names the file, so that two equal ones are kept apart; and this file says what becomes of it.
  const key = createHash('sha256').update(`${fileName}\0${OWN}\0${text}`).digest('hex')
  const kept = `${CACHE}${key}.js`
  try {
    return readFileSync(kept, 'utf8')
  } catch {
    const source = await transpile(fileName, text)
    mkdirSync(CACHE, { recursive: true })
    // Others may write the same file, or read it, at this moment.
    const own = `${kept}.${process.pid}.${Math.random()}`
    writeFileSync(own, source)
    renameSync(own, kept)
    return source
  }
}

async function transpile(fileName, text) {
  const { default: ts } = await import('typescript')
  const compilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
    inlineSourceMap: true,
  }
  return ts.transpileModule(text, { fileName, compilerOptions }).outputText
}
