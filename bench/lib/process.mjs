/**
 * What the benches run as processes of their own: `node process.mjs relay|registry FOLDER`, `daemon HOME CONFIG_JSON`, or
 * `listener HOME`, which answers every request with its parameters. Each prints one JSON line when it is ready. Rates that
 * protect servers from strangers are lifted, since a bench is one.
 *
 * Without local API: `service HOME CONFIG_JSON` is an agent that answers when a request came, and `clients FOLDER CONFIG_JSON
 * PEER COUNT REQUESTS WINDOW` are agents in one process that ask it once told `run`, and answer with what they measured.
 *
 * Each tells the processor time it has used, in milliseconds, when asked `cpu`.
 */
import { join } from 'node:path'
import { clock } from './measure.mjs'

const [kind, place = '', config = '{}', ...more] = process.argv.slice(2)
const unlimited = { perSecond: 1e6, burst: 1e6 }

/** @param {object} word */
function ready(word) {
  process.stdout.write(`${JSON.stringify(word)}\n`)
}

/** Answers a question of the process that started this one. @param {string} question @param {() => unknown} answer */
function onQuestion(question, answer) {
  process.on('message', (asked) => {
    if (asked === question) void Promise.resolve(answer()).then((word) => process.send?.(word))
  })
}

onQuestion('cpu', () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
})

/** An agent that peers can reach, and that has no limits of its own. @param {string} home */
async function openAgent(home) {
  const { Agent, defaultPolicy } = await import('../../packages/sdk/dist/index.js')
  const agent = await Agent.open({ home, config: JSON.parse(config) })
  const rate_limit = { knocks_per_minute: 1_000_000, messages_per_minute: 1_000_000 }
  agent.setPolicy({ ...defaultPolicy(), rate_limit, max_concurrent_sessions: 100_000 })
  await agent.ready(600)
  return agent
}

switch (kind) {
  case 'relay': {
    const { startRelay } = await import('../../apps/relay/dist/index.js')
    const limits = {
      sends: unlimited,
      sendBytes: { perSecond: 1e9, burst: 1e9 },
      knocks: unlimited,
      signatureChecksPerIp: unlimited,
      preAuthSocketsPerIp: 10_000,
      socketsPerIp: 20_000,
      socketsOpenedPerIp: unlimited,
      framesPerIp: unlimited,
      receiversPerIp: unlimited,
      knocksPerIp: unlimited,
      windowBytesPerIp: 2 ** 40,
      mailboxMessagesPerIp: 1e9,
      mailboxBytesPerIp: 2 ** 40,
      storeMessagesPerIp: 1e9,
      storeBytesPerIp: 2 ** 40,
    }
    ready({ url: (await startRelay({ dataPath: join(place, 'relay.db'), limits })).url })
    break
  }
  case 'registry': {
    const { startRegistry } = await import('../../apps/registry/dist/index.js')
    const limits = {
      maxConnectionsPerIp: 2_000,
      requestsPerIp: unlimited,
      registrationsPerIp: unlimited,
      uploadsPerIp: unlimited,
      requestsPerAgent: unlimited,
      fetchesPerAgent: unlimited,
      oneTimePerPair: unlimited,
      reservedOneTimePrekeys: 0,
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
  case 'service': {
    const agent = await openAgent(place)
    agent.on('request', () => ({ results: { at: clock() } }))
    ready({ amid: agent.amid })
    break
  }
  case 'clients': {
    const { openClients, askAll } = await import('./clients.mjs')
    const [peer = '', count, requests, window] = more
    const agents = await openClients(place, openAgent, peer, Number(count))
    onQuestion('run', () => askAll(agents, peer, Number(requests), Number(window)))
    ready({})
    break
  }
  default:
    throw new Error('relay, registry, daemon, listener, service or clients')
}
