/** A compose file as its engine reads it: merged, with variables put in, as far as deploy/ uses the format. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const DEPLOY = join(ROOT, 'deploy')

type Environment = Readonly<Record<string, string>>

export interface Service {
  readonly image?: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: readonly string[]
  readonly user?: string
  readonly environment?: Readonly<Record<string, string | number>>
  readonly secrets?: readonly (string | { readonly source: string; readonly target: string })[]
  readonly volumes?: readonly string[]
  readonly networks?: readonly string[] | Readonly<Record<string, { readonly ipv4_address?: string }>>
  readonly network_mode?: string
  readonly ports?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly stop_grace_period?: string
  readonly ulimits?: { readonly nofile?: number }
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly cap_add?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly privileged?: boolean
  readonly pids_limit?: number
  readonly mem_limit?: string
  readonly restart?: string
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>
  readonly secrets?: Readonly<Record<string, { readonly file: string }>>
  readonly volumes?: Readonly<Record<string, unknown>>
  readonly networks?: Readonly<
    Record<string, { readonly ipam?: { readonly config: readonly { readonly subnet: string }[] } }>
  >
}

/** What an operator sets for the two files. */
export const OPERATOR: Environment = {
  RELAY_NAME: 'relay.example.org',
  REGISTRY_NAME: 'registry.example.org',
}

export function composeText(name: string): string {
  return readFileSync(join(DEPLOY, name), 'utf8')
}

/**
 * @param given the variables that are set
 * @throws Error for a variable that is not, as the engine does
 */
export function readCompose(text: string, given: Environment = OPERATOR): ComposeFile {
  const filled = text.replaceAll(/\$\{(\w+)([^}]*)\}/g, (_whole, name: string, rest: string) => {
    const value = given[name]
    if (value === undefined) throw new Error(`${name} is not set${rest}`)
    return value
  })
  return parse(filled, { merge: true }) as ComposeFile
}

/** Seconds of `30s` or `1m`; what the engine takes when nothing is said. */
export function graceSeconds({ stop_grace_period: period = '10s' }: Service): number {
  const [, count, unit] = /^(\d+)(s|m)$/.exec(period) ?? []
  return Number(count) * (unit === 'm' ? 60 : 1)
}

/** Path in the container to path on the host, or to the name of a volume. */
export function mountsOf({ volumes = [] }: Service): ReadonlyMap<string, string> {
  return new Map(
    volumes.map((volume) => volume.split(':') as [string, string]).map(([from, to]) => [to, from]),
  )
}

/** Where a service finds each of its secrets. */
export function secretsOf({ secrets = [] }: Service): ReadonlyMap<string, string> {
  return new Map(
    secrets.map((secret) =>
      typeof secret === 'string' ? [`/run/secrets/${secret}`, secret] : [secret.target, secret.source],
    ),
  )
}

export function contextOf({ build }: Service): string | undefined {
  return build === undefined ? undefined : join(DEPLOY, build.context)
}
