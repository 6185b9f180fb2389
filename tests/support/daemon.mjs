/**
 * One daemon: `node daemon.mjs HOME CONFIG_JSON [CLOCK_OFFSET_MS]`. Prints its AMID as JSON when its local API answers,
 * and then one JSON line an event: { event, ...what it tells }, so that a test can wait for what happens inside.
 */
import { runDaemon } from '@agentmesh/sdk'

const [home, config, clockOffset = '0'] = process.argv.slice(2)

/** @param {object} line */
function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

await runDaemon({
  home,
  config: JSON.parse(config),
  now: () => Date.now() + Number(clockOffset),
  onReady: (agent) => {
    print({ amid: agent.amid })
    const connection = () => {
      const { relay, registry } = agent.status()
      print({ event: 'connection', online: agent.online, relay, registry })
    }
    agent.events.on('connection', connection)
    agent.events.on('session', (session) => print({ event: 'session', ...session }))
    agent.events.on('message', ({ id, direction, type }) => print({ event: 'message', id, direction, type }))
    agent.events.on('notice', ({ about, text }) => process.stderr.write(`${about}: ${text}\n`))
    connection()
  },
})
