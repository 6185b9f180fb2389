/**
 * The relay of the bench: as `startRelay` ships it, with authentication, quotas and metrics; only what limits a rate is
 * lifted, since all load comes from one machine. `node relay-server.mjs OPTIONS_JSON` prints its port; the options are those of
 * `startRelay` that say where mailboxes are and how other relays are reached.
 *
 * Asked `collect`, it collects garbage and tells its heap; asked `profile start|stop FILE`, it writes a CPU profile.
 */
import { writeFileSync } from 'node:fs'
import { Session } from 'node:inspector/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { startRelay } from '../../apps/relay/dist/index.js'

const unlimited = { perSecond: 1e9, burst: 1e9 }
const relay = await startRelay({
  ...JSON.parse(process.argv[2] ?? '{"dataPath":":memory:"}'),
  limits: {
    sends: unlimited,
    sendBytes: unlimited,
    knocks: unlimited,
    presenceQueries: unlimited,
    connects: unlimited,
    signatureChecksPerIp: unlimited,
    socketsPerIp: 20_000,
    socketsOpenedPerIp: unlimited,
    framesPerIp: unlimited,
    receiversPerIp: unlimited,
    knocksPerIp: unlimited,
    presenceQueriesPerIp: unlimited,
    windowBytesPerIp: 2 ** 40,
    mailboxMessagesPerIp: 1e9,
    mailboxBytesPerIp: 2 ** 40,
    storeMessagesPerIp: 1e9,
    storeBytesPerIp: 2 ** 40,
  },
})
process.stdout.write(`${JSON.stringify({ port: relay.port })}\n`)

const session = new Session()
session.connect()
process.on('message', (/** @type {string} */ question) => {
  void answer(question).then((word) => process.send?.(word))
})

/** @param {string} question */
async function answer(question) {
  const [what, file = ''] = question.split(' ')
  if (what === 'collect') {
    setFlagsFromString('--expose-gc')
    runInNewContext('gc')()
    return process.memoryUsage()
  }
  if (what === 'profile') {
    await session.post('Profiler.enable')
    await session.post('Profiler.setSamplingInterval', { interval: 200 })
    await session.post('Profiler.start')
    return {}
  }
  const result = await session.post('Profiler.stop')
  await session.post('Profiler.disable')
  writeFileSync(file, JSON.stringify(result.profile))
  return {}
}
