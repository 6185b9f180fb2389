/** `listen --exec` between processes: what a peer is answered when the program does well, badly, or not at all. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { COMMAND, Place, Process, ROOT, run, start, type CliAgent } from './cli-harness.ts'

const place = new Place()
let bob: CliAgent
let alice: CliAgent
let folder: string

beforeAll(async () => {
  await place.open()
  bob = await (await place.agent('bob', '--capability', 'travel/flights')).up()
  alice = await (await place.agent('alice')).up()
  folder = join(place.folder, 'programs')
  mkdirSync(folder)
})
afterAll(() => place.close())

/** Listens with a program while `work` runs. */
async function listening<T>(
  command: string,
  work: (listener: Process) => Promise<T>,
  ...more: string[]
): Promise<T> {
  const listener = bob.start('listen', '--exec', command, '--json', ...more)
  await listener.line((line) => line['event'] === 'ready')
  try {
    return await work(listener)
  } finally {
    await listener.stop()
  }
}

async function ask(
  params: object = {},
  ...more: string[]
): Promise<{ code: number | null; answer: unknown }> {
  const asked = ['send', bob.amid, '--intent', 'travel/flights', '--params', JSON.stringify(params)]
  const { code, stdout } = await alice.run(...asked, '--wait', '60', '--json', ...more)
  const last = JSON.parse(stdout.trim().split('\n').at(-1)!) as { answer?: { payload: unknown } }
  return { code, answer: last.answer?.payload }
}

const program = (name: string, text: string): string => {
  const file = join(folder, name)
  writeFileSync(file, text)
  return `"${process.execPath}" "${file}"`
}

test('the request reaches the program as JSON with its provenance, and its answer the peer', async () => {
  const echo = program('echo.cjs', `const text = require('fs').readFileSync(0, 'utf8'); console.log(text)`)
  const { code, answer } = await listening(echo, () => ask({ text: `'; touch ${folder}/pwned; echo '` }))
  expect(code).toBe(0)
  const { results } = answer as { results: Record<string, unknown> }
  expect(results).toMatchObject({
    from: alice.amid,
    intent: { category: 'travel', subcategory: 'flights' },
    payload: { parameters: { text: `'; touch ${folder}/pwned; echo '` } },
    provenance: { from: alice.amid, tier: 'anonymous' },
  })
  expect(readdirSync(folder)).toEqual(['echo.cjs'])
})

test('a program that prints its environment tells the peer no passphrase, token or key of its owner', async () => {
  const print = program('print.cjs', 'console.log(JSON.stringify(process.env))')
  const secrets = {
    AGENTMESH_PASSPHRASE: 'a secret',
    AGENTMESH_REGISTRY_ADMIN_TOKEN: 'a secret',
    CLOUD_ACCESS_KEY: 'a secret',
    FLIGHTS_API_KEY: 'named by the owner',
  }
  const words = ['listen', '--exec', print, '--env', 'FLIGHTS_API_KEY', '--json', '--home', bob.home]
  const listener = start(words, secrets)
  await listener.line((line) => line['event'] === 'ready')
  const { answer } = await ask()
  await listener.stop()
  const { results } = answer as { results: Record<string, string> }
  expect(results).toMatchObject({ PATH: process.env['PATH'], FLIGHTS_API_KEY: 'named by the owner' })
  expect(Object.values(results)).not.toContain('a secret')
  expect(
    Object.keys(results)
      .filter((name) => name.startsWith('AGENTMESH_'))
      .toSorted(),
  ).toEqual(['AGENTMESH_FROM', 'AGENTMESH_REQUEST_ID', 'AGENTMESH_SESSION_ID'])
})

test('the passphrase cannot be named for a program', async () => {
  const words = ['listen', '--exec', 'true', '--env', 'AGENTMESH_PASSPHRASE', '--home', bob.home]
  expect((await run(words)).code).toBe(2)
})

test('many requests at once are all answered, each with its own', async () => {
  const own = program(
    'own.cjs',
    `const { payload } = JSON.parse(require('fs').readFileSync(0)); console.log(JSON.stringify(payload.parameters.n))`,
  )
  const numbers = Array.from({ length: 12 }, (_, n) => n)
  const answers = await listening(own, async () => {
    const sent = await Promise.all(
      numbers.map((n) =>
        alice.value<{ id: string }>('send', bob.amid, '--intent', 'travel/flights', '--params', `{"n":${n}}`),
      ),
    )
    return Promise.all(sent.map(({ id }, n) => ask({ n }, '--id', id)))
  })
  expect(answers.map(({ answer }) => (answer as { results: number }).results)).toEqual(numbers)
})

describe('a failing program is answered for with HANDLER_FAILED, and its owner told why', () => {
  test.each([
    ['exit code', 'exit 7', [], /exit code 7/],
    ['no JSON', 'echo oops', [], /no answer/],
    ['too long', 'sleep 1000', ['--timeout', '0.5'], /no answer within 0.5 s/],
    [
      'too much',
      `"${process.execPath}" -e 'for (;;) require("fs").writeSync(1, "x".repeat(65536))'`,
      [],
      /bytes of output/,
    ],
    [
      'larger than a message may be',
      `"${process.execPath}" -e 'console.log(JSON.stringify("x".repeat(500000)))'`,
      [],
      /./,
    ],
  ])('%s', async (_name, command, options, why) => {
    await listening(
      command,
      async (listener) => {
        const { code, answer } = await ask()
        expect([code, answer]).toMatchObject([8, { code: 'HANDLER_FAILED' }])
        expect(JSON.stringify(answer)).not.toMatch(/exit|sleep|oops/)
        await listener.until(() => why.test(listener.stdout) || why.test(listener.stderr))
      },
      ...options,
    )
  })
})

test('a request that came while nobody listened is answered later', async () => {
  const { id } = await alice.value<{ id: string }>('send', bob.amid, '--intent', 'travel/flights')
  const { answer } = await listening('echo 5', () => ask({}, '--id', id))
  expect(answer).toMatchObject({ results: 5 })
})

test('a request whose listener ended goes to the next one', async () => {
  const slow = bob.start('listen', '--exec', 'sleep 1000', '--json')
  await slow.line((line) => line['event'] === 'ready')
  const asked = ask()
  await slow.line((line) => line['event'] === 'request')
  await slow.stop()
  const { answer } = await listening('echo 6', () => asked)
  expect(answer).toMatchObject({ results: 6 })
})

describe('a daemon that goes away', () => {
  const count = (listener: Process, event: string): number =>
    listener.lines.filter((line) => line['event'] === event).length

  test('ends no listener: it waits, and answers the next daemon', async () => {
    const listener = bob.start('listen', '--exec', 'echo 7', '--json')
    await listener.line((line) => line['event'] === 'ready')
    await bob.value('down')
    await listener.line((line) => line['event'] === 'disconnected')
    await bob.up()
    await listener.until(() => count(listener, 'ready') === 2)
    expect((await ask()).answer).toMatchObject({ results: 7 })
    expect((await listener.stop()).code).toBe(0)
  })

  test('killed while a program works, has it done once: the same run answers when it is back', async () => {
    const runs = join(folder, 'runs')
    const go = join(folder, 'go')
    const slow = program(
      'slow.cjs',
      `const fs = require('fs')
       fs.appendFileSync(${JSON.stringify(runs)}, 'run\\n')
       fs.watch(${JSON.stringify(folder)}, look)
       function look() { if (fs.existsSync(${JSON.stringify(go)})) { console.log('"done once"'); process.exit() } }
       look()`,
    )
    const listener = bob.start('listen', '--exec', slow, '--json')
    await listener.line((line) => line['event'] === 'ready')
    const asked = ask()
    await listener.line((line) => line['event'] === 'request')
    const { pid } = await bob.value<{ pid: number }>('status')
    process.kill(pid, 'SIGKILL')
    await listener.line((line) => line['event'] === 'disconnected')
    // It ends while nobody is there to take its answer.
    writeFileSync(go, '')
    await listener.line((line) => line['event'] === 'answered')
    await bob.up()
    expect((await asked).answer).toMatchObject({ results: 'done once' })
    expect(readFileSync(runs, 'utf8')).toBe('run\n')
    await listener.stop()
  })

  test('that was never there ends it with 6', async () => {
    await alice.value('down')
    expect((await alice.run('listen', '--exec', 'true')).code).toBe(6)
    await alice.up()
  })
})

describe('the examples', () => {
  test('the travel agent computes from its timetable', async () => {
    const answer = (params: object) =>
      listening(`"${process.execPath}" examples/travel-agent/flights.mjs`, () => ask(params))
    // 2026-02-08 is a Sunday, day 7.
    const sunday = await answer({ origin: 'TLV', destination: 'BER', date: '2026-02-08' })
    const flights = (sunday.answer as { results: { flight: string; price: number }[] }).results
    expect(flights.map(({ flight, price }) => [flight, price])).toEqual([
      ['CX214', 175],
      ['CX210', 198],
      ['HB101', 320],
    ])
    expect(
      (
        await answer({
          origin: 'TLV',
          destination: 'BER',
          date: '2026-02-10',
          passengers: 3,
          preferences: { max_stops: 0 },
        })
      ).answer,
    ).toMatchObject({
      results: [{ flight: 'HB101', price: 960, arrival: '2026-02-10T10:15' }],
    })
    expect(await answer({ origin: 'TLV' })).toMatchObject({ code: 8, answer: { code: 'PARAMETERS_INVALID' } })
  })

  test('a program in Python answers', async () => {
    const { answer } = await listening('python3 examples/word-count.py', () =>
      ask({ text: 'the lighthouse is lit' }),
    )
    expect(answer).toEqual({ status: 'success', results: { words: 4, longest: 'lighthouse' } })
  })

  test('hello-agent talks to another of its kind', async () => {
    const env = { AGENTMESH_REGISTRY: place.registry, AGENTMESH_RELAY: place.relay }
    const script = join(ROOT, 'examples/hello-agent.mjs')
    const first = new Process([script, join(place.folder, 'hello-1')], env)
    await first.until(() => first.stdout.trim() !== '')
    const second = new Process([script, join(place.folder, 'hello-2'), first.stdout.trim()], env)
    const { code, stdout, stderr } = await second.ended
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^-> request .*\n(.*\n)*<- response .*"you_said"/)
    await first.stop('SIGKILL')
  })

  test('the README of the examples names every one of them', () => {
    const readme = readFileSync(join(ROOT, 'examples/README.md'), 'utf8')
    const names = readdirSync(join(ROOT, 'examples')).filter((name) => name !== 'README.md')
    expect(names.filter((name) => !readme.includes(name))).toEqual([])
  })
})

test('the command is executable as it is', async () => {
  const { code } = await run(['--version'])
  expect(code).toBe(0)
  expect(readFileSync(COMMAND, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
})
