/** The command line with daemons, a registry and a relay, all processes: what an owner types in a day. */
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { errorCode, Place, run, start, type CliAgent, type Process } from './cli-harness.ts'

const UNKNOWN = '5TeC66QiBsJaxeMtz9oEwMFQWBD'
const NO_ID = '6f9619ff-8b86-4011-b42d-00cf4fc964ff'
const HOSTILE = 'red\u001b[31m \u202egnp'

const place = new Place()
let bob: CliAgent
let alice: CliAgent
let listener: Process

interface Status {
  pid: number
  breaker: string
  relay: { state: string }
  sessions: { open: number }
}
interface Session {
  session_id: string
  peer: string
  state: string
  close_reason?: string
}

/** Answers by the name of the action it is asked for. */
async function answerByAction(): Promise<Process> {
  const listening = bob.start('listen', '--json')
  await listening.until(() => listening.stderr.includes('Waiting'))
  let seen = 0
  const answer = (): boolean => {
    for (const line of listening.lines.slice(seen)) {
      const { handle, intent, payload } = line as {
        handle: string
        intent: { action?: string }
        payload: { parameters: object }
      }
      const say = (value: object) => listening.write(`${JSON.stringify({ handle, ...value })}\n`)
      if (intent === undefined) continue
      if (intent.action === 'fail') say({ error: { code: 'SOLD_OUT', message: HOSTILE } })
      else if (intent.action !== 'wait') {
        say({ status: 'processing', progress: 0.25, message: HOSTILE })
        say({ results: { echo: payload.parameters, hostile: HOSTILE } })
      }
    }
    seen = listening.lines.length
    return false
  }
  // Never passes: looks at every new line for as long as the listener runs.
  void listening.until(answer).catch(() => {})
  return listening
}

beforeAll(async () => {
  await place.open()
  bob = await (
    await place.agent('bob', '--name', `Bob ${HOSTILE}`.slice(0, 4), '--capability', 'travel/flights')
  ).up()
  alice = await (await place.agent('alice', '--relay-encoding', 'json')).up()
  listener = await answerByAction()
})
afterAll(async () => {
  await listener.stop()
  await place.close()
})

/** About flights; a request about something else knocks anew. */
const ask = (...more: string[]) => about('travel/flights', ...more)
const about = (intent: string, ...more: string[]) => [
  'send',
  bob.amid,
  '--intent',
  intent,
  '--wait',
  '60',
  ...more,
]

describe('send', () => {
  test('the first request of a fresh daemon is answered, with every stage in order', async () => {
    const { code, stdout } = await alice.run(...ask('--params', '{"origin":"TLV"}', '--json'))
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id: string; stage: string; answer?: object })
    expect(code).toBe(0)
    const stages = lines.map(({ stage }) => stage)
    // The relay's word and a status come between the receipts, which travel together.
    const unordered = new Set(['sent', 'stored', 'status'])
    const ordered = ['queued', 'looked_up', 'knocked', 'accepted', 'delivered', 'read', 'answered']
    expect(stages.filter((stage) => !unordered.has(stage))).toEqual(ordered)
    expect(stages).toContain('status')
    expect(new Set(lines.map(({ id }) => id)).size).toBe(1)
    expect(lines.at(-1)?.answer).toMatchObject({
      payload: { results: { echo: { origin: 'TLV' }, hostile: HOSTILE } },
    })
  })

  test('people see progress on stderr, results on stdout, and nothing that moves their cursor', async () => {
    const { code, stdout, stderr } = await alice.run(...ask('--params', '{"a":1}'))
    expect(code).toBe(0)
    expect(JSON.parse(stdout.replaceAll(/\\u\{([0-9A-F]+)\}/g, ''))).toMatchObject({ echo: { a: 1 } })
    expect(stderr).toContain('processing 25%')
    expect(`${stdout}${stderr}`.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    expect(stderr).toContain('\\u{202E}gnp')
  })

  test('parameters may come from stdin', async () => {
    const { stdout } = await run(
      [...ask('--params', '-', '--json'), '--home', alice.home],
      {},
      '{"from":"stdin"}',
    )
    expect(stdout).toContain('"echo":{"from":"stdin"}')
  })

  test('an error of the peer ends with 8', async () => {
    const { code, stdout } = await alice.run(...ask('--action', 'fail', '--json'))
    expect(code).toBe(8)
    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toMatchObject({
      answer: { type: 'error', payload: { code: 'SOLD_OUT' } },
    })
  })

  test('no answer in time ends with 5; the message goes on, and the same id waits for it again', async () => {
    const waiting = ['--action', 'wait', '--id', NO_ID, '--json']
    const sent = await alice.run(...about('creative', ...waiting, '--wait', '3'))
    expect([sent.code, errorCode(sent)]).toEqual([5, 'WAIT_TIMEOUT'])
    const again = alice.start(...about('creative', ...waiting))
    await again.line((line) => line['stage'] === 'read')
    const { handle } = await listener.line((line) => line['id'] === NO_ID)
    listener.write(`${JSON.stringify({ handle, results: 'late' })}\n`)
    expect((await again.ended).code).toBe(0)
    expect(listener.lines.filter((line) => line['id'] === NO_ID)).toHaveLength(1)
  })

  test('an agent nobody registered ends with 3', async () => {
    const sent = await alice.run('send', UNKNOWN, '--intent', 'travel', '--wait', '60', '--json')
    expect([sent.code, errorCode(sent)]).toEqual([3, 'AGENT_NOT_FOUND'])
  })

  test('a refused KNOCK ends with 4, and both owners can ask why', async () => {
    await bob.value('policy', 'set', 'rejected_intents', 'finance')
    const sent = await alice.run('send', bob.amid, '--intent', 'finance/payments', '--wait', '60', '--json')
    expect([sent.code, errorCode(sent)]).toEqual([4, 'KNOCK_REJECTED'])
    const { id } = JSON.parse(sent.stdout.split('\n', 1)[0]!) as { id: string }
    expect(await alice.value('why', id)).toMatchObject({
      progress: expect.arrayContaining([
        expect.objectContaining({ reject: expect.objectContaining({ reason: 'intent_not_accepted' }) }),
      ]),
    })
    const { decisions } = await bob.value<{ decisions: { id: string; accepted: boolean; reason: string }[] }>(
      'why',
      alice.amid,
    )
    expect(decisions[0]).toMatchObject({ accepted: false, reason: 'intent_not_accepted' })
    expect(await bob.value('why', decisions[0]!.id)).toMatchObject({ decisions: [decisions[0]] })
    const words = await bob.run('why', alice.amid)
    expect(words.stdout).toMatch(/FAILED {2}intent/)
  })

  test('without --wait the id is all there is', async () => {
    const { id } = await alice.value<{ id: string }>(
      'send',
      bob.amid,
      '--intent',
      'travel',
      '--id',
      '0f9619ff-8b86-4011-b42d-00cf4fc964ff',
    )
    expect(id).toBe('0f9619ff-8b86-4011-b42d-00cf4fc964ff')
  })
})

test('listen says which answers it could not take, and goes on', async () => {
  for (const line of [
    'no json',
    '{"results":1}',
    `{"id":"5f9619ff-8b86-4011-b42d-00cf4fc964ff","results":1}`,
    `{"handle":"5f9619ff-8b86-4011-b42d-00cf4fc964ff","results":1}`,
  ]) {
    const before = listener.stderr.length
    listener.write(`${line}\n`)
    await listener.until(() => listener.stderr.length > before)
  }
  const codes = [...listener.stderr.matchAll(/"code":"([A-Z_]+)"/g)].map(([, code]) => code)
  expect(codes).toEqual(['JSON_SYNTAX', 'MALFORMED', 'MALFORMED', 'MESSAGE_UNKNOWN'])
  expect((await alice.run(...ask())).code).toBe(0)
})

test('search finds by capability, and finds nothing without an error', async () => {
  expect(await alice.value('search', 'travel/flights')).toMatchObject({ agents: [{ amid: bob.amid }] })
  expect(await alice.value('search', 'creative')).toEqual({ agents: [], next_cursor: null })
  expect((await alice.run('search', 'travel', '--tier-min', 'verified')).stdout).toContain('No agent')
})

describe('sessions', () => {
  test('show, export and kill one', async () => {
    const waiting = alice.start(...about('productivity', '--action', 'wait', '--json'))
    const { session_id } = (await waiting.line((line) => line['stage'] === 'accepted')) as unknown as Session
    await waiting.line((line) => line['stage'] === 'read')
    const listed = await alice.value<Session[]>('sessions')
    expect(listed.find((session) => session.session_id === session_id)).toMatchObject({
      state: 'open',
      peer: bob.amid,
    })
    const shown = await alice.value<{ messages: object[] }>('session', 'show', session_id)
    expect(shown.messages).toMatchObject([{ direction: 'out', type: 'request' }])

    const { file } = await alice.value<{ file: string }>('session', 'export', session_id)
    expect(file).toBe(join(alice.home, 'sessions', bob.amid, `${session_id}.json`))
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      session_id,
      messages: [{ type: 'request' }],
    })
    const taken = join(place.folder, 'taken.json')
    writeFileSync(taken, 'mine')
    expect((await alice.run('session', 'export', session_id, '--output', taken)).code).toBe(7)
    expect(readFileSync(taken, 'utf8')).toBe('mine')

    await alice.value('session', 'kill', session_id)
    expect(await alice.value('session', 'show', session_id)).toMatchObject({
      state: 'closed',
      close_reason: 'killed',
    })
    await listener.line((line) => line['cancelled'] !== undefined)
    await waiting.stop()
  })

  test('one that is not there ends with 3', async () => {
    for (const command of ['show', 'kill', 'export']) {
      const ended = await alice.run('session', command, NO_ID, '--json')
      expect([ended.code, errorCode(ended)]).toEqual([3, 'SESSION_UNKNOWN'])
    }
    expect((await alice.run('why', NO_ID.replace('6f', '7f'))).code).toBe(3)
    expect((await alice.run('why', '../../x')).code).toBe(3)
    expect((await alice.run('why', UNKNOWN)).code).toBe(3)
  })
})

describe('the daemon', () => {
  test('up again says that it runs already, and a second one is kept out by the lock', async () => {
    const before = await alice.value<Status>('status')
    expect(await alice.value('up')).toMatchObject({ already_running: true, pid: before.pid })
    const second = await alice.run('up', '--foreground', '--json')
    expect([second.code, errorCode(second)]).toEqual([7, 'HOME_LOCKED'])
    expect((await alice.value<Status>('status')).pid).toBe(before.pid)
  })

  test('is in order for the doctor while it runs', async () => {
    const { checks } = await alice.value<{ checks: { name: string; state: string }[] }>('doctor')
    expect(checks.map(({ name, state }) => `${name} ${state}`)).toEqual([
      ...['node', 'home', 'identity', 'policy', 'config', 'daemon', 'socket', 'lock'].map(
        (name) => `${name} ok`,
      ),
      'registry ok',
      'clock ok',
      'relay ok',
      'clock ok',
    ])
  })

  test('keeps its sessions and messages over a restart', async () => {
    const before = await alice.value<Session[]>('sessions')
    const { pid } = await alice.value<Status>('status')
    expect(await alice.value('down')).toEqual({ stopped: true, pid })
    expect((await alice.run('status')).code).toBe(6)
    const after = await (await alice.up()).value<Status>('status')
    expect(after.pid).not.toBe(pid)
    expect((await alice.value<Session[]>('sessions')).map(({ session_id }) => session_id)).toEqual(
      before.map(({ session_id }) => session_id),
    )
    expect((await alice.run(...ask())).code).toBe(0)
  })

  test('killed outright, it comes back from the same home', async () => {
    const { pid } = await alice.value<Status>('status')
    process.kill(pid, 'SIGKILL')
    await alice.up()
    expect((await alice.run(...ask())).code).toBe(0)
  })

  test('leaves nothing in its home that others can read', async () => {
    const names = readdirSync(alice.home, { recursive: true, encoding: 'utf8' })
    expect(names).toContain('daemon.log')
    for (const name of names) {
      // The daemon is at work: what it wrote for a moment may be gone.
      const { mode = 0 } = statSync(join(alice.home, name), { throwIfNoEntry: false }) ?? {}
      expect([name, mode & 0o077]).toEqual([name, 0])
    }
  })

  test('an empty home gets an agent, and its recovery words are shown', async () => {
    const home = join(place.folder, 'fresh')
    const { code, stdout } = await run(['up', '--home', home, '--json'])
    expect(code).toBe(0)
    const { amid, recovery_words } = JSON.parse(stdout) as { amid: string; recovery_words: string }
    expect(recovery_words.split(' ')).toHaveLength(24)
    const { stdout: status } = await run(['status', '--home', home, '--json'])
    expect(JSON.parse(status)).toMatchObject({ amid })
    await run(['down', '--home', home])
  })

  test('opens sealed keys with the passphrase, and keeps that out of its environment', async () => {
    const home = join(place.folder, 'sealed')
    const env = { AGENTMESH_PASSPHRASE: 'correct horse battery' }
    expect((await run(['init', '--home', home], env)).code).toBe(0)
    const { code, stdout } = await run(['up', '--home', home, '--json'], env)
    expect(code).toBe(0)
    const { pid } = JSON.parse(stdout) as Status
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
    expect(environment).toContain('PATH=')
    expect(environment).not.toContain('horse')
    expect((await run(['down', '--home', home])).code).toBe(0)
  })
})

describe('the owner', () => {
  test('pause refuses new KNOCKs until resume', async () => {
    expect(await bob.value('pause')).toEqual({ breaker: 'paused' })
    const refused = await alice.run(...about('research', '--json'))
    expect([refused.code, errorCode(refused)]).toEqual([4, 'KNOCK_REJECTED'])
    expect(await bob.value('resume')).toEqual({ breaker: 'running' })
    expect((await alice.run(...about('research'))).code).toBe(0)
  })

  test('block ends sessions and refuses the agent; allow lets it in again', async () => {
    await bob.value('block', alice.amid)
    const refused = await alice.run(...ask('--json'))
    expect(refused.code).toBe(4)
    await bob.value('allow', alice.amid)
    expect(await bob.value('policy', 'show')).toMatchObject({ blocklist: [], allowlist: [alice.amid] })
  })

  test('shutdown outlasts a restart, and only resume ends it', async () => {
    expect(await alice.value('shutdown')).toEqual({ breaker: 'shutdown' })
    await alice.value('down')
    expect(await alice.value('up')).toMatchObject({ breaker: 'shutdown', relay: { state: 'stopped' } })
    const refused = await alice.run(...ask('--json'))
    expect([refused.code, errorCode(refused)]).toEqual([10, 'AGENT_STOPPED'])
    expect(await alice.value('resume')).toEqual({ breaker: 'running' })
    expect((await alice.run(...ask())).code).toBe(0)
  })

  test('emergency-stop ends the daemon and the program that answers', async () => {
    const carol = await (await place.agent('carol', '--capability', 'research')).up()
    const program = carol.start('listen', '--exec', 'sleep 1000', '--json')
    await program.line((line) => line['event'] === 'ready')
    const asking = alice.start('send', carol.amid, '--intent', 'research', '--wait', '60', '--json')
    await program.line((line) => line['event'] === 'request')
    expect(await carol.value('emergency-stop')).toEqual({ breaker: 'emergency_stop' })
    expect((await program.ended).stdout).toContain('"event":"ended"')
    const { code } = await start(['up', '--home', carol.home, '--json']).ended
    expect(code).toBe(0)
    expect(await carol.value('status')).toMatchObject({ breaker: 'emergency_stop' })
    await asking.stop()
  })
})

describe('audit', () => {
  test('lists events as lines, and filters them', async () => {
    const { stdout } = await bob.run('audit', '--event', 'knock_received', '--limit', '2', '--json')
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; line: number })
    expect(lines.map(({ event }) => event)).toEqual(['knock_received', 'knock_received'])
    expect(lines[1]!.line).toBeGreaterThan(lines[0]!.line)
  })

  test('verify passes, and fails with 15 when a line was changed', async () => {
    expect(await bob.value('audit', 'verify')).toMatchObject({ ok: true, problems: [] })
    const copy = join(place.folder, 'tampered')
    await bob.value('down')
    cpSync(bob.home, copy, { recursive: true })
    const [name] = readdirSync(join(copy, 'logs')).filter((file) => file.endsWith('.jsonl'))
    const file = join(copy, 'logs', name!)
    writeFileSync(file, readFileSync(file, 'utf8').replace(alice.amid, bob.amid))
    const { code, stdout } = await run(['audit', 'verify', '--home', copy, '--json'])
    expect([code, JSON.parse(stdout)]).toMatchObject([15, { ok: false, problems: [{ kind: 'changed' }] }])
  })

  test('a gap is in status and an error until it is acknowledged, and then no more', async () => {
    await bob.run('down')
    rmSync(join(bob.home, 'logs'), { recursive: true })
    await bob.up()
    expect(await bob.value('status')).toMatchObject({ audit: { gaps: 1 } })
    expect((await bob.run('status')).stdout).toContain('agentmesh audit verify')
    const { code, stdout } = await bob.run('audit', 'verify', '--json')
    const { ok, gaps } = JSON.parse(stdout) as { ok: boolean; gaps: { id: string; kind: string }[] }
    expect([code, ok, gaps.map(({ kind }) => kind)]).toEqual([15, false, ['restarted']])
    expect((await bob.run('audit', 'verify')).stdout).toContain(gaps[0]!.id)
    expect((await bob.run('audit', 'acknowledge', 'ffffffffffffffff')).code).toBe(3)
    expect(await bob.value('audit', 'acknowledge', gaps[0]!.id)).toMatchObject({ acknowledged: true })
    expect(await bob.value('audit', 'verify')).toMatchObject({ ok: true })
    expect(await bob.value('status')).toMatchObject({ audit: { gaps: 0 } })
    const { stdout: lines } = await bob.run('audit', '--event', 'log_gap_acknowledged', '--json')
    expect(JSON.parse(lines)).toMatchObject({ gap: gaps[0]!.id, by: 'cli' })
    await bob.run('down')
    expect(await bob.value('audit', 'verify')).toMatchObject({ ok: true, endChecked: true })
    expect((await bob.run('audit', 'acknowledge', gaps[0]!.id)).code).toBe(6)
  })

  test('without the passphrase of the keys the end is not checked, and the check fails', async () => {
    const home = join(place.folder, 'sealed-log')
    const env = { AGENTMESH_PASSPHRASE: 'a passphrase' }
    const servers = ['--registry', place.registry, '--relay', place.relay]
    for (const words of [['init', ...servers], ['up'], ['down']])
      expect(await run([...words, '--home', home], env)).toMatchObject({ code: 0 })
    const words = ['audit', 'verify', '--home', home, '--json']
    const [blind, seeing, wrong] = [
      await run(words),
      await run(words, env),
      await run(words, { AGENTMESH_PASSPHRASE: 'another' }),
    ]
    expect([blind.code, JSON.parse(blind.stdout)]).toMatchObject([1, { ok: false, endChecked: false }])
    expect((await run(words.slice(0, -1))).stdout).toContain('End not checked')
    expect([seeing.code, JSON.parse(seeing.stdout)]).toMatchObject([0, { ok: true, endChecked: true }])
    expect(wrong.code).toBe(7)
  })
})
