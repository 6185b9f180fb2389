/**
 * The relay as a program of its own:
 *
 *     node main.js [--host 127.0.0.1] [--port 7800] [--data agentmesh-relay.db] [--name AUTHORITY]... [--log-level info]
 *
 * Options, their variables (AGENTMESH_RELAY_HOST, _PORT, _DATA) and defaults are those of `agentmesh relay`. Prints one JSON
 * line with its address when it listens; logs go to stderr; SIGINT and SIGTERM end it in order.
 */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { startRelay } from './server.ts'

const {
  AGENTMESH_RELAY_HOST: host = '127.0.0.1',
  AGENTMESH_RELAY_PORT: port = '7800',
  AGENTMESH_RELAY_DATA: data = 'agentmesh-relay.db',
} = process.env
const { values } = parseArgs({
  options: {
    host: { type: 'string', default: host },
    port: { type: 'string', default: port },
    data: { type: 'string', default: data },
    name: { type: 'string', multiple: true },
    'log-level': { type: 'string', default: 'info' },
  },
})
if (!/^\d{1,5}$/.test(values.port) || Number(values.port) > 65_535) {
  process.stderr.write('--port is 0 to 65535\n')
  process.exit(2)
}
const logger = pino({ name: 'relay', level: values['log-level'] }, pino.destination(2))
const relay = await startRelay({
  dataPath: values.data,
  host: values.host,
  port: Number(values.port),
  ...(values.name === undefined ? {} : { names: values.name }),
  logger,
}).catch((error: unknown) => {
  logger.fatal({ err: error }, 'relay not started')
  process.exit(1)
})
process.stdout.write(`${JSON.stringify({ url: relay.url, relayIds: relay.relayIds })}\n`)
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void relay.close().then(() => process.exit(0)))
}
