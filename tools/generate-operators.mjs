/**
 * Writes the tables of docs/operators.md that the code already states, between markers such as `<!-- generated: relay settings -->`
 * and `<!-- end -->`. Reads the built servers: run `tsc -b` first. The same code gives the same file, formatted as the
 * repository's formatter leaves it.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { format } from 'oxfmt'
import { RegistryMetrics } from '../apps/registry/dist/metrics.js'
import { REGISTRY_DEFINITION } from '../apps/registry/dist/index.js'
import { Counters } from '../apps/relay/dist/counters.js'
import { RELAY_DEFINITION } from '../apps/relay/dist/index.js'
import { metricsRegistry } from '../apps/relay/dist/metrics.js'
import { settingsOf, valueText } from '../packages/sdk/dist/hosting/index.js'

const root = new URL('../', import.meta.url)
const target = fileURLToPath(new URL('docs/operators.md', root))
const style = JSON.parse(await readFile(new URL('.oxfmtrc.json', root), 'utf8'))

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

let text = await readFile(target, 'utf8')
for (const [name, lines] of Object.entries(TABLES)) {
  const begin = `<!-- generated: ${name} -->`
  const from = text.indexOf(begin)
  const to = text.indexOf('<!-- end -->', from)
  if (from === -1 || to === -1) throw new Error(`docs/operators.md lacks the place for ${name}`)
  text = `${text.slice(0, from + begin.length)}\n\n${lines.join('\n')}\n\n${text.slice(to)}`
}
const formatted = await format(target, text, style)
if (formatted.errors.length > 0) throw new Error(formatted.errors[0].message)
await writeFile(target, formatted.code)
