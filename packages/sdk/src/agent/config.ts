/**
 * `config.json` in an agent's home: where its registry and relays are, and what it says about itself. Written by
 * `init`, edited by the owner, read at start. The policy is a file of its own (`policy.json`, specification §7.3).
 */
import type { Static } from 'typebox'
import {
  CapabilityOffer,
  AgentMeshError,
  Capability,
  CategoryText,
  parseJsonObject,
  type JsonObject,
  PeerText,
  validate,
  Type,
} from '../wire/index.ts'
import type { Home } from '../identity/index.ts'
import { normalRelayUrl } from '../transport/index.ts'

export const DEFAULT_REGISTRY_URL = 'http://127.0.0.1:7700'
export const DEFAULT_RELAY_URL = 'ws://127.0.0.1:7800/v1/connect'
const MAX_CONFIG_BYTES = 64 * 1024

export const Config = Type.Object(
  {
    registry: Type.String({ pattern: '^https?://', maxLength: 256 }),
    /** Of these the nearest is where the agent is reached; when it is away, the next. */
    relays: Type.Array(Type.String({ pattern: '^wss?://[!-~]+$', maxLength: 256 }), {
      minItems: 1,
      maxItems: 8,
    }),
    /** Default `binary`; `json` for relays and onlookers that want text frames. */
    relay_encoding: Type.Optional(Type.Enum(['binary', 'json'])),
    display_name: Type.Optional(PeerText(64)),
    framework: Type.Optional(PeerText(64)),
    framework_version: Type.Optional(PeerText(32)),
    capabilities: Type.Array(Type.Union([Capability, CategoryText]), { maxItems: 64 }),
    /** A session without a message for this long ends. Default 24 hours. */
    session_idle_seconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 86_400 })),
    /** Checks of requests and answers against the schemas known here (spec/schemas.md). Default `warn`. */
    schemas: Type.Optional(Type.Enum(['strict', 'warn', 'off'])),
    /** What capability negotiation may agree on (specification §6.3). Default: the capabilities above. */
    negotiation: Type.Optional(CapabilityOffer),
    /** Run by `emergency-stop` to stop the agent framework: program and arguments, no shell. */
    framework_stop_command: Type.Optional(
      Type.Array(Type.String({ maxLength: 1024 }), { minItems: 1, maxItems: 32 }),
    ),
  },
  { $id: 'agentmesh/config' },
)
export type Config = Static<typeof Config>

const CONFIG_FILE = 'config.json'

/** Whether the home has a `config.json`, good or bad. @throws HOME_UNSAFE */
export function hasConfig(home: Home): boolean {
  return home.has(CONFIG_FILE)
}

/**
 * Reads `config.json`. Relays come in the form in which they are compared, each once.
 *
 * @throws CONFIG_INVALID naming the field that is wrong; HOME_EMPTY when there is no file; HOME_UNSAFE
 */
export function readConfig(home: Home): Config {
  const bytes = home.readFile(CONFIG_FILE)
  if (bytes === undefined) {
    throw new AgentMeshError('HOME_EMPTY', `No agent in ${home.path}: run \`agentmesh init\``)
  }
  try {
    const config = validate(Config, oneForm(parseJsonObject(bytes, MAX_CONFIG_BYTES)), `read ${CONFIG_FILE}`)
    return { ...config, relays: normalRelays(config.relays) }
  } catch (cause) {
    throw new AgentMeshError('CONFIG_INVALID', `${CONFIG_FILE}: ${(cause as Error).message}`, { cause })
  }
}

/** A file written for one relay names it in `relay`. */
function oneForm(file: JsonObject): JsonObject {
  const { relay, ...rest } = file
  return relay === undefined || 'relays' in file ? file : { ...rest, relays: [relay] }
}

/** @throws MALFORMED */
export function normalRelays(relays: readonly string[]): string[] {
  return [...new Set(relays.map(normalRelayUrl))]
}

/**
 * Writes a file that still names one relay in the form of today. The agent's lock must be held.
 *
 * @throws as `readConfig`, HOME_FAILED
 */
export function renewConfig(home: Home): void {
  const bytes = home.readFile(CONFIG_FILE)
  if (bytes === undefined) return
  const config = readConfig(home)
  if (!('relays' in parseJsonObject(bytes, MAX_CONFIG_BYTES))) writeConfig(home, config)
}

/**
 * Checks and writes `config.json`, over what was there.
 *
 * @throws MALFORMED naming the field that is wrong, HOME_FAILED
 */
export function writeConfig(home: Home, config: Config): void {
  validate(Config, config, `write ${CONFIG_FILE}`)
  home.writeFile(CONFIG_FILE, new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`))
}
