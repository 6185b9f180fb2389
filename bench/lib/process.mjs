/**
 * What the benches run as processes of their own: `node process.mjs relay|registry FOLDER`, `daemon HOME CONFIG_JSON`, or
 * `listener HOME`, which answers every request with its parameters. Each prints one JSON line when it is ready. Rates that
 * protect servers from strangers are lifted, since a bench is one.
 */
import { join } from 'node:path'

const [kind, place = '', config = '{}'] = process.argv.slice(2)
const unlimited = { perSecond: 1e6, burst: 1e6 }

/** @param {object} word */
function ready(word) {
  process.stdout.write(`${JSON.stringify(word)}\n`)
}

switch (kind) {
  case 'relay': {
    const { startRelay } = await import('../../apps/relay/dist/index.js')
    const limits = { sends: unlimited, sendBytes: { perSecond: 1e9, burst: 1e9 }, knocks: unlimited }
    ready({ url: (await startRelay({ dataPath: join(place, 'relay.db'), limits })).url })
    break
  }
  case 'registry': {
    const { startRegistry } = await import('../../apps/registry/dist/index.js')
    const limits = {
      requestsPerIp: unlimited,
      requestsPerAgent: unlimited,
      fetchesPerAgent: unlimited,
      oneTimePerPair: unlimited,
      oneTimePerTarget: unlimited,
    }
    ready({ url: (await startRegistry({ dataPath: join(place, 'registry.db'), limits })).url })
    break
  }
  case 'daemon': {
    const { runDaemon } = await import('../../packages/sdk/dist/index.js')
    await runDaemon({
      home: place,
      config: JSON.parse(config),
      onReady: (agent) => void agent.ready().then(() => ready({ amid: agent.amid })),
    })
    break
  }
  case 'listener': {
    const { AgentClient } = await import('../../packages/sdk/dist/index.js')
    const client = new AgentClient(place)
    for await (const event of client.requests()) {
      if (event.type === 'ready') ready({})
      if (event.type === 'request')
        void client.answer(event.request.id, { results: event.request.payload.parameters })
    }
    break
  }
  default:
    throw new Error('relay, registry, daemon or listener')
}
