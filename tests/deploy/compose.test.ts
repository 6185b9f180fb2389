/** The compose files of deploy/: what they name exists, and what they set is taken. Each rule is seen to find its fault. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { composeText, DEPLOY, OPERATOR, readCompose } from './compose-file.ts'
import { composeProblems, type Surroundings } from './compose-rules.ts'

const folder = mkdtempSync(join(tmpdir(), 'agentmesh-compose-'))
afterAll(() => rmSync(folder, { recursive: true }))

const secrets = join(folder, 'secrets')
const makeSecrets = (to: string) =>
  execFileSync(join(DEPLOY, 'make-secrets.sh'), ['turn.example.org', to], { encoding: 'utf8', stdio: 'pipe' })
makeSecrets(secrets)

const around: Surroundings = {
  dockerfile: readFileSync(join(DEPLOY, 'Dockerfile'), 'utf8'),
  caddyfile: readFileSync(join(DEPLOY, 'Caddyfile'), 'utf8'),
  secrets,
}
const SINGLE = 'compose.yaml'
const CLUSTER = 'compose.cluster.yaml'

test.each([SINGLE, CLUSTER])('%s holds to every rule', async (name) => {
  expect(await composeProblems(readCompose(composeText(name)), around)).toEqual([])
})

test.each([SINGLE, CLUSTER])('%s does not start while the names are not set', (name) => {
  for (const missing of Object.keys(OPERATOR)) {
    const given = Object.fromEntries(Object.entries(OPERATOR).filter(([key]) => key !== missing))
    expect(() => readCompose(composeText(name), given)).toThrow(`${missing} is not set`)
  }
})

/** File, text, what it becomes, and what is said of it. */
type Fault = readonly [string, string | RegExp, string, RegExp]

describe('a fault is found:', () => {
  test.each<Fault>([
    [
      SINGLE,
      'AGENTMESH_RELAY_LOG_LEVEL: info',
      'AGENTMESH_RELAY_LOGLEVEL: info',
      /relay: .*nothing reads it/,
    ],
    [SINGLE, 'AGENTMESH_RELAY_LOG_LEVEL: info', 'AGENTMESH_RELAY_LOG_LEVEL: loud', /relay: .*LOG_LEVEL must/],
    [SINGLE, 'command: [registry]', 'command: [registry, --prot, "1"]', /--prot is no option/],
    [SINGLE, 'command: [relay]', 'command: [relais]', /relais is no server/],
    [SINGLE, 'https://${REGISTRY_NAME', 'https://x/path${REGISTRY_NAME', /PUBLIC_URL must match/],
    [SINGLE, 'PROXIES: 172.30.77.2', 'PROXIES: 172.30.77.3', /relay: believes 172.30.77.3/],
    [SINGLE, '0.0.0.0:9100', 'everywhere', /metrics_address: everywhere is no host:port/],
    [SINGLE, /AGENTMESH_RELAY_METRICS_ADDRESS.*\n/, '\n', /relay: shows its metrics/],
    [SINGLE, 'stop_grace_period: 30s', 'stop_grace_period: 10s', /relay: is killed before/],
    [SINGLE, 'nofile: 65536', 'nofile: 1024', /relay: may open fewer files/],
    [SINGLE, '7800/healthz', '7801/healthz', /relay: is asked for its health/],
    [SINGLE, '7700/healthz', '7700/health', /registry: is asked for its health/],
    [SINGLE, "volumes: ['relay:/data']", 'labels: []', /relay: keeps its data nowhere/],
    [SINGLE, "['relay:/data']", "['relays:/data']", /relay: relays is not there/],
    [SINGLE, './Caddyfile:', './Caddy:', /caddy: .\/Caddy is not there/],
    [SINGLE, 'deploy/Dockerfile', 'Dockerfile', /relay: its Dockerfile is not there/],
    [SINGLE, 'RELAYS: relay:7800', 'RELAYS: relay:7700', /nobody listens at relay:7700/],
    [SINGLE, 'REGISTRIES: registry:7700', 'REGISTRIES: relay:7800', /registry: gets no calls/],
    [SINGLE, 'REGISTRIES:', 'REGISTERS:', /caddy: REGISTRIES is not set/],
    [SINGLE, 'ipv4_address: 172.30.77.2', 'ipv4_address: 172.30.78.2', /172.30.78.2 is not in/],
    [SINGLE, 'networks: [mesh]', 'networks: [net]', /there is no network net/],
    [SINGLE, 'read_only: true', 'read_only: false', /relay: may write/],
    [SINGLE, 'cap_drop: [ALL]', 'cap_drop: []', /relay: keeps capabilities/],
    [SINGLE, 'cap_add: [NET_BIND_SERVICE]', 'cap_add: [SYS_ADMIN]', /caddy: takes capabilities/],
    [SINGLE, /security_opt: .*/, '', /relay: may gain rights/],
    [SINGLE, 'mem_limit: 1g', '', /registry: may take all memory/],
    [SINGLE, 'pids_limit: 200', 'privileged: true', /relay: is privileged/],
    [SINGLE, 'caddy:2.10-alpine', 'caddy:latest', /caddy: is of any version/],
    [SINGLE, 'stop_grace_period: 30s', "stop_grace_period: 30s\n    ports: ['7800:7800']", /relay: is open/],
    [SINGLE, 'relay: { condition', 'relais: { condition', /waits for relais/],
    [CLUSTER, 'secrets: [relay.json]', 'secrets: []', /relay-1: .*no such file in the container/],
    [CLUSTER, 'secrets: [nats.conf]', 'secrets: []', /nats: \/run\/secrets\/nats.conf is no secret/],
    [CLUSTER, './secrets/relay.json', './secrets/relay.yaml', /relay.json is a secret that nobody makes/],
    [CLUSTER, '  nats:\n', '  broker:\n', /relay-1: nobody listens at nats:4222/],
    [CLUSTER, 'DRAIN_SECONDS: 5', 'DRAIN_SECONDS: 45', /registry-2: is killed before/],
    [
      CLUSTER,
      'POSTGRES_PASSWORD_FILE: /run/secrets/postgres-password',
      'POSTGRES_PASSWORD: x',
      /is in its env/,
    ],
    [CLUSTER, 'AGENTMESH_REGISTRY_DRAIN', 'DATABASE_URL: postgres://x\n    X', /DATABASE_URL is in its env/],
    [CLUSTER, 'relay-1:7800 relay-2:7800', 'relay-1:7800', /relay-2: gets no calls/],
    [CLUSTER, 'volumes:\n  registry:', 'volumes:\n  old:\n  registry:', /volumes: nothing uses old/],
    [CLUSTER, /healthcheck:\n {6}test: \[CMD, pg_isready.*/, '', /waits for postgres, which never says/],
  ])('%s with %s as %j', async (name, from, to, said) => {
    const text = composeText(name)
    const changed = text.replace(from, to)
    expect(changed).not.toBe(text)
    expect((await composeProblems(readCompose(changed), around)).join('\n')).toMatch(said)
  })

  test.each([
    ['a health path that nobody serves', 'health_uri /readyz', 'health_uri /ready', /answers at \/ready/],
    ['a name that is never set', '{$RELAYS}', '{$RELAY_LIST}', /RELAY_LIST is not set/],
  ])('%s, in the Caddyfile', async (_fault, from, to, said) => {
    const caddyfile = around.caddyfile.replaceAll(from, to)
    const problems = await composeProblems(readCompose(composeText(SINGLE)), { ...around, caddyfile })
    expect(problems.join('\n')).toMatch(said)
  })
})

describe('make-secrets.sh', () => {
  const read = (name: string, from = secrets) => readFileSync(join(from, name), 'utf8')

  test('makes a folder that is closed to others, with files that their containers can read', () => {
    expect(statSync(secrets).mode & 0o777).toBe(0o700)
    for (const name of readdirSync(secrets)) expect(statSync(join(secrets, name)).mode & 0o777).toBe(0o644)
  })

  test('never overwrites', () => {
    const before = read('relay.json')
    expect(() => makeSecrets(secrets)).toThrow(/File exists/)
    expect(read('relay.json')).toBe(before)
  })

  test('gives every secret to both who share it, a different one each, and each time', () => {
    const { database_url, nats_url, turn } = JSON.parse(read('relay.json')) as {
      database_url: string
      nats_url: string
      turn: { secret: string }
    }
    const registry = JSON.parse(read('registry.json')) as { database_url: string }
    const password = (url: string) => new URL(url).password
    expect(read('databases.sql')).toContain(`ROLE relay LOGIN PASSWORD '${password(database_url)}'`)
    expect(read('databases.sql')).toContain(
      `ROLE registry LOGIN PASSWORD '${password(registry.database_url)}'`,
    )
    expect(read('nats.conf')).toContain(`password: "${password(nats_url)}"`)
    expect(read('turnserver.conf')).toContain(`static-auth-secret=${turn.secret}\n`)
    const all = [database_url, registry.database_url, nats_url].map(password)
    all.push(turn.secret, read('postgres-password'))
    const again = join(folder, 'again')
    makeSecrets(again)
    all.push(read('postgres-password', again))
    for (const secret of all) expect(secret).toMatch(/^[0-9a-f]{48}$/)
    expect(new Set(all).size).toBe(all.length)
  })

  test('keeps coturn off every network that is nobody’s business outside', () => {
    const denied = [...read('turnserver.conf').matchAll(/^denied-peer-ip=(.+)$/gm)].map(([, range]) => range)
    expect(denied).toEqual([
      '0.0.0.0-0.255.255.255',
      '10.0.0.0-10.255.255.255',
      '100.64.0.0-100.127.255.255',
      '127.0.0.0-127.255.255.255',
      '169.254.0.0-169.254.255.255',
      '172.16.0.0-172.31.255.255',
      '192.168.0.0-192.168.255.255',
      '::1',
      'fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
      'fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    ])
  })
})

describe('the Caddyfile', () => {
  const paths = (site: string) => {
    const [, block = ''] =
      new RegExp(`^\\{\\$${site}\\} \\{\\n([\\s\\S]*?)^\\}`, 'm').exec(around.caddyfile) ?? []
    return [...block.matchAll(/^\t(?:handle (\/\S*)|@public path (.*)) *\{?$/gm)].map(
      ([, handled, matched]) => handled ?? matched,
    )
  }

  test('hands on the paths that agents ask for and no other: health and metrics stay inside', () => {
    expect(paths('RELAY_NAME')).toEqual(['/v1/*'])
    expect(paths('REGISTRY_NAME')).toEqual(['/v1/* /openapi.json'])
    expect(around.caddyfile.match(/^\thandle /gm)).toHaveLength(2)
    expect(around.caddyfile.match(/^\trespond 404$/gm)).toHaveLength(2)
  })
})
