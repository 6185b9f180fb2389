/**
 * What must hold of a compose file for it to start and to keep to its bounds, found without a container engine. Each rule names
 * the service and what is wrong; an empty list is a good file.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { registryProgram } from '@agentmesh/registry'
import { relayProgram } from '@agentmesh/relay'
import {
  serve,
  settingsOf,
  TrustedAddresses,
  type RunningServer,
  type ServerProgram,
  type SettingsSchema,
} from '@agentmesh/sdk/hosting'
import {
  contextOf,
  DEPLOY,
  graceSeconds,
  mountsOf,
  secretsOf,
  type ComposeFile,
  type Service,
} from './compose-file.ts'
import { imageEnvironment } from './docker-file.ts'

export interface Surroundings {
  readonly dockerfile: string
  readonly caddyfile: string
  /** The folder that make-secrets.sh made. */
  readonly secrets: string
}

/** The file, and what its services of ours would be configured with. */
interface Read {
  readonly file: ComposeFile
  readonly around: Surroundings
  readonly configured: ReadonlyMap<string, Checked>
}
type Check = (read: Read) => string[]
type Values = Readonly<Record<string, unknown>>

type AnyProgram = ServerProgram<SettingsSchema, RunningServer>
const PROGRAMS: Readonly<Record<string, AnyProgram>> = {
  relay: relayProgram,
  registry: registryProgram,
}
/** Of images that are not ours, where they listen. */
const FOREIGN_PORTS: Readonly<Record<string, number>> = { postgres: 5432, nats: 4222, coturn: 3478 }
const HEALTH_PATHS = ['/healthz', '/readyz']

export async function composeProblems(file: ComposeFile, around: Surroundings): Promise<string[]> {
  const ours = servicesOf(file).filter(([, service]) => isOurs(service))
  const configured = new Map(
    await Promise.all(
      ours.map(async ([name, service]) => [name, await checkConfiguration(service, around)] as const),
    ),
  )
  return CHECKS.flatMap((check) => check({ file, around, configured }))
}

const isOurs = ({ build }: Service): boolean => build !== undefined

const servicesOf = (file: ComposeFile) => Object.entries(file.services)

const each =
  (check: (name: string, service: Service, read: Read) => string[]): Check =>
  (read) =>
    servicesOf(read.file).flatMap(([name, service]) => check(name, service, read))

interface Checked {
  readonly values: Values
  readonly problems: readonly string[]
}

/** What `--check-config` says of a service of ours, with the files it would find in its container. */
async function checkConfiguration(service: Service, around: Surroundings): Promise<Checked> {
  const [kind = '', ...args] = service.command ?? []
  const program = PROGRAMS[kind]
  if (program === undefined) return { values: {}, problems: [`${kind} is no server`] }
  const secrets = secretsOf(service)
  const environment = Object.fromEntries(
    Object.entries({ ...imageEnvironment(around.dockerfile), ...service.environment }).map(
      ([name, value]) => [name, String(value)],
    ),
  )
  let values: Values = {}
  const problems: string[] = []
  const watched: AnyProgram = {
    ...program,
    check: (given) => {
      values = given
      return program.check(given)
    },
  }
  try {
    await serve(watched, {
      args: [...args, '--check-config'],
      environment,
      readFile: (path) => {
        const name = secrets.get(path)
        if (name === undefined) throw new Error('no such file in the container')
        return readFileSync(join(around.secrets, name))
      },
      print: (text) => problems.push(...text.split('\n').filter((line) => line.includes('nothing reads it'))),
      announce: () => '',
      help: () => undefined,
    })
  } catch (error) {
    problems.push(...(error as Error).message.split('\n'))
  }
  return { values, problems }
}

const serverConfigurations = each((name, service, { file, configured }) => {
  const { values, problems } = configured.get(name) ?? { values: {}, problems: [] }
  if (problems.length > 0 || !isOurs(service)) return problems.map((problem) => `${name}: ${problem}`)
  return serverProblems(service, values, file).map((problem) => `${name}: ${problem}`)
})

function serverProblems(service: Service, values: Values, file: ComposeFile): string[] {
  const { host, port, drainSeconds, metricsAddress, trustedProxies, limit } = values as {
    host: string
    port: number
    drainSeconds: number
    metricsAddress?: string
    trustedProxies: string[]
    limit: { maxSockets?: number }
  }
  const problems: string[] = []
  if (host !== '0.0.0.0') problems.push(`listens on ${host}, where nobody else is`)
  if (metricsAddress === undefined) problems.push('shows its metrics to everybody')
  if (!(graceSeconds(service) > drainSeconds)) problems.push('is killed before it has drained')
  const files = service.ulimits?.nofile ?? 0
  if (limit.maxSockets !== undefined && files <= limit.maxSockets)
    problems.push('may open fewer files than sockets')
  const url = new URL(service.healthcheck?.test.at(-1) ?? 'none:')
  if (url.port !== String(port) || !HEALTH_PATHS.includes(url.pathname))
    problems.push(`is asked for its health at ${url.href}`)
  if (!mountsOf(service).has('/data') && !('databaseUrl' in values)) problems.push('keeps its data nowhere')
  const { networks = {} } = file.services['caddy'] ?? {}
  const address = Object.values(networks)[0]?.ipv4_address ?? ''
  if (trustedProxies.join() !== address) problems.push(`believes ${trustedProxies.join()}, not ${address}`)
  return problems
}

/** Passwords and the like in the environment of a container are seen by everybody who may look at it. */
const secretsStayInFiles = each((name, { environment = {} }) => {
  const secret = Object.values(PROGRAMS).flatMap(({ definition }) =>
    settingsOf(definition)
      .filter((setting) => setting.secret)
      .map(({ variable }) => variable),
  )
  return Object.keys(environment)
    .filter((variable) => secret.includes(variable) || /(PASSWORD|SECRET|TOKEN)$/.test(variable))
    .map((variable) => `${name}: ${variable} is in its environment`)
})

const bounded = each((name, service) => {
  const { cap_drop = [], cap_add = [], security_opt = [], image = '' } = service
  const problems = [
    service.read_only === true ? '' : 'may write to its own file system',
    cap_drop.includes('ALL') ? '' : 'keeps capabilities',
    cap_add.every((capability) => capability === 'NET_BIND_SERVICE') ? '' : 'takes capabilities',
    security_opt.includes('no-new-privileges:true') ? '' : 'may gain rights',
    service.privileged === undefined ? '' : 'is privileged',
    service.mem_limit === undefined ? 'may take all memory' : '',
    service.pids_limit === undefined ? 'may start any number of processes' : '',
    service.restart === 'unless-stopped' ? '' : 'stays down',
    service.healthcheck === undefined ? 'has no health check' : '',
    isOurs(service) || /:\d[\w.-]*$/.test(image) ? '' : 'is of any version',
    name === 'caddy' || service.ports === undefined ? '' : 'is open to the world',
  ]
  return problems.filter((problem) => problem !== '').map((problem) => `${name}: ${problem}`)
})

const referencesExist = each((name, service, { file, around: { secrets } }) => {
  const problems: string[] = []
  const context = contextOf(service)
  if (context !== undefined && !existsSync(join(context, service.build?.dockerfile ?? '')))
    problems.push('its Dockerfile is not there')
  for (const from of mountsOf(service).values()) {
    if (from.startsWith('.') ? !existsSync(join(DEPLOY, from)) : !(from in (file.volumes ?? {})))
      problems.push(`${from} is not there`)
  }
  const networks = Array.isArray(service.networks) ? service.networks : Object.keys(service.networks ?? {})
  for (const network of networks as string[])
    if (!(network in (file.networks ?? {}))) problems.push(`there is no network ${network}`)
  for (const secret of secretsOf(service).values()) {
    const path = file.secrets?.[secret]?.file
    if (path !== `./secrets/${secret}` || !existsSync(join(secrets, secret)))
      problems.push(`${secret} is a secret that nobody makes`)
  }
  const named = Object.values(service.environment ?? {})
    .concat(service.command ?? [])
    .map(String)
  for (const path of named.filter((value) => value.startsWith('/run/secrets/')))
    if (!secretsOf(service).has(path)) problems.push(`${path} is no secret of its`)
  for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
    const target = file.services[other]
    if (target === undefined) problems.push(`waits for ${other}, which is nothing`)
    else if (condition === 'service_healthy' && target.healthcheck === undefined)
      problems.push(`waits for ${other}, which never says that it is healthy`)
  }
  return problems.map((problem) => `${name}: ${problem}`)
})

/** Every `host:port` by which one service calls another. */
const callsAreAnswered: Check = ({ file, configured }) => {
  const problems: string[] = []
  const call = (name: string, host: string, port: string) => {
    const there = host in file.services
    const listens = configured.get(host)?.values['port'] ?? FOREIGN_PORTS[host]
    if (!there || listens !== Number(port)) problems.push(`${name}: nobody listens at ${host}:${port}`)
  }
  const { RELAYS = '', REGISTRIES = '' } = file.services['caddy']?.environment ?? {}
  const upstreams = [...String(RELAYS).split(' '), ...String(REGISTRIES).split(' ')]
  for (const upstream of upstreams) {
    const [host = '', port = ''] = upstream.split(':')
    call('caddy', host, port)
  }
  for (const [name, { values }] of configured) {
    if (!upstreams.some((upstream) => upstream.startsWith(`${name}:`)))
      problems.push(`${name}: gets no calls`)
    for (const url of [values['databaseUrl'], values['natsUrl']].filter((value) => value !== undefined)) {
      const { hostname, port } = new URL(url as string)
      call(name, hostname, port)
    }
  }
  return problems
}

const caddy: Check = ({ file, around: { caddyfile } }) => {
  const service = file.services['caddy']
  const given = Object.keys(service?.environment ?? {})
  const used = [...caddyfile.matchAll(/\{\$(\w+)\}/g)].map(([, name]) => name ?? '')
  const [mesh] = Object.entries(service?.networks ?? {})
  const [network, settings] = mesh ?? ['', undefined]
  const subnet = file.networks?.[network]?.ipam?.config[0]?.subnet ?? '0.0.0.0/32'
  const health = [...caddyfile.matchAll(/health_uri (\S+)/g)].map(([, path]) => path ?? '')
  return [
    ...used.filter((name) => !given.includes(name)).map((name) => `caddy: ${name} is not set`),
    ...given.filter((name) => !used.includes(name)).map((name) => `caddy: nothing reads ${name}`),
    ...health
      .filter((path) => !HEALTH_PATHS.includes(path))
      .map((path) => `caddy: nobody answers at ${path}`),
    ...(mountsOf(service ?? {}).get('/etc/caddy/Caddyfile') === './Caddyfile'
      ? []
      : ['caddy: has no Caddyfile']),
    ...(new TrustedAddresses([subnet]).has(settings?.ipv4_address ?? '')
      ? []
      : [`caddy: ${settings?.ipv4_address} is not in ${subnet}`]),
  ]
}

const unusedParts: Check = ({ file }) => {
  const all = servicesOf(file).map(([, service]) => service)
  const used = {
    volumes: all.flatMap((service) => [...mountsOf(service).values()]),
    secrets: all.flatMap((service) => [...secretsOf(service).values()]),
  }
  return (['volumes', 'secrets'] as const).flatMap((kind) =>
    Object.keys(file[kind] ?? {})
      .filter((name) => !used[kind].includes(name))
      .map((name) => `${kind}: nothing uses ${name}`),
  )
}

const CHECKS: readonly Check[] = [
  serverConfigurations,
  secretsStayInFiles,
  bounded,
  referencesExist,
  callsAreAnswered,
  caddy,
  unusedParts,
]
