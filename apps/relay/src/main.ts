/**
 * `node dist/main.js --data FILE [--host H] [--port N] [--name AUTHORITY]...`: one relay process. Prints one JSON line with
 * its address when it listens; logs go to stderr; SIGINT and SIGTERM end it in order.
 */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { startRelay } from './server.ts'

const { values } = parseArgs({
  options: {
    data: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    name: { type: 'string', multiple: true },
    'log-level': { type: 'string', default: 'info' },
  },
})
if (values.data === undefined) {
  process.stderr.write('Missing --data FILE\n')
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
