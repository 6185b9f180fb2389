/** Puts generated tables into a document, between markers such as `<!-- generated: relay settings -->` and `<!-- end -->`. */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { format } from 'oxfmt'

const root = new URL('../', import.meta.url)

/**
 * Formatted as the repository's formatter leaves it.
 *
 * @param {string} path of the document, from the root
 * @param {Readonly<Record<string, readonly string[]>>} tables lines by name
 */
export async function insertTables(path, tables) {
  const target = fileURLToPath(new URL(path, root))
  const style = JSON.parse(await readFile(new URL('.oxfmtrc.json', root), 'utf8'))
  let text = await readFile(target, 'utf8')
  for (const [name, lines] of Object.entries(tables)) {
    const begin = `<!-- generated: ${name} -->`
    const from = text.indexOf(begin)
    const to = text.indexOf('<!-- end -->', from)
    if (from === -1 || to === -1) throw new Error(`${path} lacks the place for ${name}`)
    text = `${text.slice(0, from + begin.length)}\n\n${lines.join('\n')}\n\n${text.slice(to)}`
  }
  const formatted = await format(target, text, style)
  if (formatted.errors.length > 0) throw new Error(formatted.errors[0].message)
  await writeFile(target, formatted.code)
}
