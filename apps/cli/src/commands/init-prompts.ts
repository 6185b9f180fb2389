/** The questions of `agentmesh init` in a terminal, when no option answers them. */
import { DEFAULT_REGISTRY_URL, DEFAULT_RELAY_URL } from '@agentmesh/sdk'
import { confirm, isCancel, text } from '@clack/prompts'
import { UsageError } from '../exit-codes.ts'

/** What the command line can say of a new agent, and what the questions ask for. */
export interface InitOptions {
  name?: string
  registry?: string
  relay?: readonly string[]
  relayEncoding?: string
  capability?: readonly string[]
  framework?: string
  passphrasePrompt?: boolean
}

export async function askForOptions(): Promise<InitOptions> {
  const name = answered(await text({ message: 'What does the agent call itself?', placeholder: 'optional' }))
  const capabilities = answered(
    await text({
      message: 'What can it do? category/subcategory, with commas',
      placeholder: 'travel/flights, or nothing',
    }),
  )
  const registry = answered(await text({ message: 'Registry', initialValue: DEFAULT_REGISTRY_URL }))
  const relays = answered(
    await text({ message: 'Relays, with commas: the nearest is used', initialValue: DEFAULT_RELAY_URL }),
  )
  const passphrasePrompt = answered(
    await confirm({ message: 'Seal the keys under a passphrase?', initialValue: false }),
  )
  const [capability, relay] = [capabilities, relays].map(listed) as [string[], string[]]
  return { registry, relay, capability, passphrasePrompt, ...(name ? { name } : {}) }
}

function listed(answer: string | undefined): string[] {
  return (answer ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
}

function answered<T>(answer: T): Exclude<T, symbol> {
  if (isCancel(answer)) throw new UsageError('Cancelled; nothing was made')
  return answer as Exclude<T, symbol>
}
