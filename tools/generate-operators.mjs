/**
 * Writes the tables of docs/operators.md that the code already states, between markers such as `<!-- generated: relay settings -->`
 * and `<!-- end -->`. Reads the built servers: run `tsc -b` first. The same code gives the same file, formatted as the
 * repository's formatter leaves it.
 */
import { RegistryMetrics } from '../apps/registry/dist/metrics.js'
import { REGISTRY_DEFINITION } from '../apps/registry/dist/index.js'
import { Counters } from '../apps/relay/dist/counters.js'
import { RELAY_DEFINITION } from '../apps/relay/dist/index.js'
import { metricsRegistry } from '../apps/relay/dist/metrics.js'
import { settingsOf, valueText } from '../packages/sdk/dist/hosting/index.js'
import { insertTables } from './insert-tables.mjs'

const code = (text) => '`' + text + '`'
const prose = (text) => text.replaceAll('|', '\\|')
const isLimit = ({ path }) => path[0] === 'limit'

function fallbackText({ fallback }) {
  if (fallback === undefined || fallback.length === 0) return ''
  return code(valueText(fallback))
}

function settings(definition) {
  const rows = settingsOf(definition)
    .filter((setting) => !isLimit(setting))
    .map((setting) => {
      const { key, option, variable, kind, choices, description } = setting
      const again = kind === 'list' ? ', repeatable' : ''
      const words = choices === undefined ? '' : `: ${choices.map(code).join(', ')}`
      const typed = option === undefined ? '' : `${code(`--${option}`)}${again}`
      return `| ${code(key)} | ${typed} | ${code(variable)} | ${fallbackText(setting)} | ${prose(description)}${words} |`
    })
  return ['| file | option | variable | default | |', '| --- | --- | --- | --- | --- |', ...rows]
}

function limits(definition) {
  const rows = settingsOf(definition)
    .filter(isLimit)
    .map((setting) => {
      const fallback = valueText(setting.fallback)
      const grouped = Number.isInteger(setting.fallback) ? setting.fallback.toLocaleString('en-US') : fallback
      return `| ${code(setting.key)} | ${grouped} | ${prose(setting.description)} |`
    })
  return ['| limit | default | what it holds |', '| --- | --- | --- |', ...rows]
}

/** From what a scrape of everything would begin with. */
function metrics(text) {
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]))
  const rows = [...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map(
    ([, name, help]) => `| ${code(name)} | ${types.get(name)} | ${prose(help)} |`,
  )
  return ['| metric | type | |', '| --- | --- | --- |', ...rows]
}

const nothing = {
  connected: 0,
  windowBytes: 0,
  open: 0,
  messages: 0,
  bytes: 0,
  relays: 0,
  waiting: 0,
  linked: false,
  expiresAt: 0,
}
const relayMetrics = await metricsRegistry({
  counters: new Counters(),
  router: nothing,
  senders: nothing,
  mailbox: nothing,
  guard: nothing,
  cluster: nothing,
  tls: nothing,
}).metrics()
const registryMetrics = new RegistryMetrics()
registryMetrics.watchCertificate(() => 0)
registryMetrics.watchConnections(() => 0)

const TABLES = {
  'relay settings': settings(RELAY_DEFINITION),
  'registry settings': settings(REGISTRY_DEFINITION),
  'relay limits': limits(RELAY_DEFINITION),
  'registry limits': limits(REGISTRY_DEFINITION),
  'relay metrics': metrics(relayMetrics),
  'registry metrics': metrics(await registryMetrics.text()),
}

await insertTables('docs/operators.md', TABLES)
