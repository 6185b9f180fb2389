/**
 * Module hooks that let Node run the sources: `.ts` files lose their types, and workspace names lead to sources as they do
 * in the tests. A tool that registers them runs what the tests run, not what was built last.
 *
 *     register('./source-hooks.mjs', import.meta.url)
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'
import { sourceAliases } from './workspaces.mjs'

const aliases = sourceAliases()
const compilerOptions = {
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  inlineSourceMap: true,
}

export function resolve(specifier, context, next) {
  const source = aliases[specifier]
  return source === undefined ? next(specifier, context) : next(pathToFileURL(source).href, context)
}

export function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const fileName = fileURLToPath(url)
  const { outputText } = ts.transpileModule(readFileSync(fileName, 'utf8'), { fileName, compilerOptions })
  return { format: 'module', source: outputText, shortCircuit: true }
}
