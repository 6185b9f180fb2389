/**
 * `agentmesh init`: an identity, `config.json` and `policy.json` in a home. Never overwrites. The 24 recovery words exist
 * nowhere but in this output (DESIGN §4).
 */
import {
  AgentMeshError,
  Config,
  DEFAULT_REGISTRY_URL,
  DEFAULT_RELAY_URL,
  defaultPolicy,
  hasConfig,
  isAgentMeshError,
  normalRelays,
  POLICY_FILE,
  utf8Bytes,
  validate,
  writeConfig,
} from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { createIdentity, Home } from '@agentmesh/sdk/identity'
import { UsageError } from '../exit-codes.ts'
import { color, fields, show, type Context } from '../output.ts'
import type { InitOptions } from './init-prompts.ts'
import { homePath, readPassphrase } from './shared.ts'

export interface NewAgent {
  readonly amid: string
  readonly home: string
  readonly registry: string
  readonly relays: readonly string[]
  readonly capabilities: Config['capabilities']
  readonly keys: 'passphrase' | 'file'
  /** 24 words, shown once. */
  readonly recovery_words: string
}

export async function init(context: Context, given: InitOptions): Promise<void> {
  const asked =
    Object.keys(given).length === 0 && process.stdin.isTTY && process.stdout.isTTY && !context.json
  const options = asked ? await (await import('./init-prompts.ts')).askForOptions() : given
  const passphrase = await readPassphrase(options, 'A passphrase for the keys')
  const made = makeAgent(homePath(context), options, passphrase)
  show(context, made, () => `${describeNewAgent(made)}\n\nNext: agentmesh up`)
}

/** @throws HOME_EXISTS, HOME_UNSAFE; UsageError for an option the configuration cannot hold */
export function makeAgent(path: string, options: InitOptions, passphrase: string | undefined): NewAgent {
  const config = configFrom(options)
  const home = Home.create(path)
  const there = ['keys', 'config.json', 'state.db'].filter((name) => home.has(name))
  if (there.length > 0 || hasConfig(home)) {
    throw new AgentMeshError('HOME_EXISTS', `${home.path} has ${there.join(', ')} already`)
  }
  const { identity, recoveryWords } = createIdentity(home, {
    random: systemRandom,
    now: Date.now(),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(options.framework === undefined ? {} : { framework: options.framework }),
  })
  writeConfig(home, config)
  // A policy the owner has put there before is the policy.
  if (!home.has(POLICY_FILE)) {
    home.writeFile(POLICY_FILE, utf8Bytes(`${JSON.stringify(defaultPolicy(), null, 2)}\n`))
  }
  return {
    amid: identity.amid,
    home: home.path,
    registry: config.registry,
    relays: config.relays,
    capabilities: config.capabilities,
    keys: passphrase === undefined ? 'file' : 'passphrase',
    recovery_words: recoveryWords,
  }
}

function configFrom(options: InitOptions): Config {
  const { name, relayEncoding, framework } = options
  try {
    const config = {
      registry: options.registry ?? DEFAULT_REGISTRY_URL,
      relays: normalRelays(options.relay ?? [DEFAULT_RELAY_URL]),
      ...(relayEncoding === undefined ? {} : { relay_encoding: relayEncoding }),
      ...(name === undefined ? {} : { display_name: name }),
      ...(framework === undefined ? {} : { framework }),
      capabilities: (options.capability ?? []).map(capabilityFrom),
    }
    if (!URL.canParse(config.registry)) throw new UsageError('--registry is not a URL')
    return validate(Config, config, 'read options')
  } catch (error) {
    if (isAgentMeshError(error)) throw new UsageError(`An option is not in form: ${error.message}`)
    throw error
  }
}

function capabilityFrom(text: string): { category: string; subcategory?: string } {
  const parts = text.split('/')
  const split = text.startsWith('x-') ? 2 : 1
  const category = parts.slice(0, split).join('/')
  const subcategory = parts.slice(split).join('/')
  return subcategory === '' ? { category } : { category, subcategory }
}

export function describeNewAgent(made: NewAgent): string {
  const words = made.recovery_words.split(' ')
  const rows = Array.from({ length: 6 }, (_, row) =>
    words
      .slice(row * 4, row * 4 + 4)
      .map((word, column) => `${String(row * 4 + column + 1).padStart(2)} ${word.padEnd(9)}`)
      .join(' '),
  )
  return [
    fields([
      ['AMID', made.amid],
      ['home', made.home],
      ['registry', made.registry],
      [made.relays.length === 1 ? 'relay' : 'relays', made.relays.join('  ')],
      ['keys', made.keys === 'file' ? 'protected by file permissions' : 'sealed under the passphrase'],
    ]),
    '',
    color.bold('Write these 24 words down. They are shown once and can name a successor of this agent:'),
    '',
    ...rows.map((row) => `  ${row.trimEnd()}`),
  ].join('\n')
}
