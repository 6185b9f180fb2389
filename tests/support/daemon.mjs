/** One daemon: `node daemon.mjs HOME CONFIG_JSON`. Prints its AMID as JSON when its local API answers. */
import { runDaemon } from '@agentmesh/sdk'

const [home, config] = process.argv.slice(2)
await runDaemon({
  home,
  config: JSON.parse(config),
  onReady: (agent) => process.stdout.write(`${JSON.stringify({ amid: agent.amid })}\n`),
})
