/**
 * One daemon: `node daemon.mjs HOME CONFIG_JSON [CLOCK_FILE]`. Prints its AMID as JSON when its local API answers, and
 * then one JSON line an event: { event, ...what it tells }, so that a test can wait for what happens inside. The clock file
 * holds by how many milliseconds the daemon's clock is off, and is looked at each time.
 */
import { readFileSync } from 'node:fs'
import { runDaemon } from '@agentmesh/sdk'

const [home, config, clockFile] = process.argv.slice(2)

/** @param {object} line */
function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

await runDaemon({
  home,
  config: JSON.parse(config),
  now: () => Date.now() + (clockFile === undefined ? 0 : Number(readFileSync(clockFile, 'utf8'))),
  onReady: (agent) => {
    print({ amid: agent.amid })
    const connection = () => {
      const { relay, registry } = agent.status()
      print({ event: 'connection', online: agent.online, relay, registry })
    }
    agent.events.on('connection', connection)
    agent.events.on('session', (session) => print({ event: 'session', ...session }))
    agent.events.on('message', ({ id, direction, type }) => print({ event: 'message', id, direction, type }))
    agent.events.on('notice', ({ about, text }) => {
      process.stderr.write(`${about}: ${text}\n`)
      print({ event: 'notice', about, text })
    })
    connection()
  },
})
