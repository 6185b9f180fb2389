/**
 * One daemon: `node daemon.mjs HOME CONFIG_JSON [CLOCK_FILE]`. Prints its AMID as JSON when its local API answers, and
 * then one JSON line an event: { event, ...what it tells }, so that a test can wait for what happens inside. The clock file
 * is a symbolic link to the number of milliseconds by which the daemon's clock is off, looked at each time: that needs no
 * file descriptor.
 */
import { readlinkSync } from 'node:fs'
import { runDaemon } from '@agentmesh/sdk'

const [home, config, clockFile] = process.argv.slice(2)

/** @param {object} line */
function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

await runDaemon({
  home,
  config: JSON.parse(config),
  now: () => Date.now() + (clockFile === undefined ? 0 : Number(readlinkSync(clockFile))),
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
