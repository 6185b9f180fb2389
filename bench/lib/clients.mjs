/** Agents of one process that ask one service, and what they measure. */
import { join } from 'node:path'
import { clock } from './measure.mjs'

const request = {
  intent: { category: 'travel', subcategory: 'flights' },
  parameters: { text: 'x'.repeat(200) },
}
const WARM_UP = 200
const stream = { sessionType: /** @type {const} */ ('stream') }

/** @typedef {import('../../packages/sdk/dist/index.js').Agent} Agent */

/** One request and its answer. @param {Agent} agent @param {string} peer */
async function ask(agent, peer) {
  const begin = clock()
  const sent = await agent.send(peer, request, stream)
  const answer = await sent.answer()
  if (answer.type !== 'response') throw new Error(JSON.stringify(answer.payload))
  const { at } = /** @type {{ at: number }} */ (answer.payload.results)
  return { handled: at - begin, answered: clock() - begin }
}

/**
 * Agents with an open session each.
 * @param {string} folder
 * @param {(home: string) => Promise<Agent>} open
 * @param {string} peer
 * @param {number} count
 */
export async function openClients(folder, open, peer, count) {
  /** @type {Agent[]} */
  const agents = []
  for (let n = 0; n < count; n++) agents.push(await open(join(folder, `client-${n}`)))
  // The KNOCK, and code that was never run, are not what is measured.
  for (const agent of agents) for (let n = 0; n < Math.ceil(WARM_UP / count); n++) await ask(agent, peer)
  return agents
}

/**
 * @param {readonly Agent[]} agents
 * @param {string} peer
 * @param {number} requests in all
 * @param {number} window requests without an answer, of each agent
 */
export async function askAll(agents, peer, requests, window) {
  /** @type {number[]} */
  const handled = []
  /** @type {number[]} */
  const answered = []
  let left = requests
  await Promise.all(
    agents.flatMap((agent) =>
      Array.from({ length: window }, async () => {
        while (left-- > 0) {
          const times = await ask(agent, peer)
          handled.push(times.handled)
          answered.push(times.answered)
        }
      }),
    ),
  )
  return { handled, answered }
}
