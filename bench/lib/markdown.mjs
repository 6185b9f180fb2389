/** Tables that are read as they are printed and pasted into `docs/benchmarks.md` as they are. */

/**
 * @param {readonly string[]} head the first column is left-aligned, all others are figures
 * @param {readonly (readonly string[])[]} rows
 */
export function printTable(head, rows) {
  const widths = head.map((title, column) =>
    Math.max(4, title.length, ...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (/** @type {readonly string[]} */ cells) =>
    `| ${widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join(' | ')} |`
  console.log(line(head))
  console.log(
    `| ${widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`,
  )
  for (const row of rows) console.log(line(row))
}

/** @param {number} value */
export function thousands(value) {
  return Math.round(value).toLocaleString('en-US')
}

/** The least and the largest. @param {readonly number[]} figures @param {number} [digits] */
export function spread(figures, digits = 2) {
  return `${Math.min(...figures).toFixed(digits)} .. ${Math.max(...figures).toFixed(digits)}`
}
