/**
 * Text of strangers, made safe to look at (DESIGN §4): in the log, on a terminal, on a page.
 *
 * What moves a cursor, reorders a line or is not seen at all is shown as `\u{202E}`. Everything else stays, backslashes
 * too, so that escaping twice is escaping once. This is about eyes and terminals; HTML, shells and SQL need their own.
 */

// Categories, not a list, so that the next invisible character of Unicode is covered too: Cc controls (C0, C1, DEL), Cf
// formats (bidi, zero-width, tags), Cs lone surrogates, Zl and Zp line separators, and whatever else is drawn as
// nothing (fillers, joiners). U+FE0E and U+FE0F only choose how the emoji before them looks.
const UNSAFE = /(?![\ufe0e\ufe0f])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu

/** The same text, with every unsafe character as `\u{HEX}`. Never longer than eight times the input. */
export function escapeText(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u{${code.toString(16).toUpperCase().padStart(4, '0')}}`
  })
}

/** `escapeText` on every string inside a JSON value, keys included. */
export function escapeValue(value: unknown): unknown {
  if (typeof value === 'string') return escapeText(value)
  if (Array.isArray(value)) return value.map(escapeValue)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, field]) => [escapeText(key), escapeValue(field)]),
  )
}
