/**
 * An agent in a few lines, in a process of its own. Needs a registry and a relay: `agentmesh registry`, `agentmesh relay`.
 *
 *     node examples/hello-agent.mjs ./alice             prints its AMID and answers
 *     node examples/hello-agent.mjs ./bob <amid>        talks to it
 */
import { Agent } from '@agentmesh/sdk'

const [home = './hello-agent', peer] = process.argv.slice(2)
const { AGENTMESH_REGISTRY: registry, AGENTMESH_RELAY: relay } = process.env
const config = { ...(registry && { registry }), ...(relay && { relays: [relay] }) }

const agent = await Agent.open({ home, config })
agent.on('request', ({ from, payload }) => ({ results: { hello: from, you_said: payload.parameters } }))
await agent.ready()

if (peer === undefined) {
  console.log(agent.amid)
} else {
  const sent = await agent.send(
    peer,
    { intent: { category: 'communication' }, parameters: { name: 'Bob' } },
    { sessionType: 'conversation' },
  )
  const { session_id } = (await firstOf(sent.progress(), ({ stage }) => stage === 'accepted')) ?? {}
  const conversation = agent.conversation(session_id)
  for await (const message of conversation) {
    console.log(message.direction === 'out' ? '->' : '<-', message.type, JSON.stringify(message.payload))
    if (message.type === 'response') break
  }
  await conversation.close()
  await agent.close()
}

async function firstOf(items, wanted) {
  for await (const item of items) if (wanted(item)) return item
}
