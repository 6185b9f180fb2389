/** Asks again and again until the answer is yes, for what no event tells. @throws after half a minute, with the last answer */
export async function until<T>(
  what: string,
  look: () => Promise<T>,
  right: (value: T) => boolean,
): Promise<T> {
  const deadline = Date.now() + 30_000
  for (;;) {
    const value = await look()
    if (right(value)) return value
    if (Date.now() > deadline)
      throw new Error(`Not in half a minute: ${what}; it is ${JSON.stringify(value)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
