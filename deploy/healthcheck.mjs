/**
 * Whether a server of this container answers: ends with 0 when one of the URLs does so with 200, else with 1. The image has
 * no curl.
 *
 * Usage: node healthcheck.mjs <url>...
 */
const answers = process.argv.slice(2).map(async (url) => {
  const { status } = await fetch(url, { signal: AbortSignal.timeout(4_000) })
  if (status !== 200) throw new Error(`${url} answers ${status}`)
})
try {
  await Promise.any(answers)
} catch (error) {
  for (const { message, cause } of error.errors) process.stderr.write(`${message} ${cause?.message ?? ''}\n`)
  process.exitCode = 1
}
