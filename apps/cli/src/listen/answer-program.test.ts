import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Amid, IncomingRequest, MessageId, SessionId, StatusPayload } from '@agentmesh/sdk'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HANDLER_FAILED, MAX_OUTPUT_BYTES, startProgram, type Outcome } from './answer-program.ts'

const REQUEST: IncomingRequest = {
  id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff' as MessageId,
  from: '5TeC66QiBsJaxeMtz9oEwMFQWBD' as Amid,
  session_id: '0f9619ff-8b86-4011-b42d-00cf4fc964ff' as SessionId,
  intent: { category: 'travel' },
  payload: {
    intent: { category: 'travel' },
    parameters: { text: '$(touch pwned); `id` "quoted" secret-of-the-peer' },
  },
  sent_before_start: false,
  provenance: {
    from: '5TeC66QiBsJaxeMtz9oEwMFQWBD' as Amid,
    session_id: '0f9619ff-8b86-4011-b42d-00cf4fc964ff' as SessionId,
    tier: 'anonymous',
    reputation: 0.5,
    received_at: '2026-01-01T00:00:00.000Z',
  },
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agentmesh-program-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const statuses: StatusPayload[] = []
const run = (command: string, timeoutSeconds = 60): Promise<Outcome> => {
  statuses.length = 0
  return startProgram(command, REQUEST, {
    timeoutSeconds,
    variables: [],
    onStatus: (status) => statuses.push(status),
  }).outcome
}
const node = (code: string): string => `"${process.execPath}" -e '${code}'`

describe('answers', () => {
  test.each([
    ['results as they are', `echo '{"results":[1],"status":"partial"}'`, { results: [1], status: 'partial' }],
    [
      'an error of its own',
      `echo '{"error":{"code":"SOLD_OUT","message":"x"}}'`,
      { error: { code: 'SOLD_OUT', message: 'x' } },
    ],
    ['any other object as results', `echo '{"price":3}'`, { results: { price: 3 } }],
    ['a bare value as results', 'echo 42', { results: 42 }],
    ['JSON over several lines', `printf '{\\n"results":\\n7}\\n'`, { results: 7 }],
    ['JSON without a line end', `printf '"done"'`, { results: 'done' }],
  ])('takes %s', async (_name, command, answer) => {
    expect(await run(command)).toEqual({ kind: 'answered', answer })
  })

  test('the program reads the whole request from stdin', async () => {
    const outcome = await run('cat')
    expect(outcome).toEqual({ kind: 'answered', answer: { results: REQUEST } })
  })

  test('status lines before the answer are passed on in order', async () => {
    const outcome = await run(
      `echo '{"status":"queued"}'; echo '{"status":"processing","progress":0.5}'; echo '{"results":1}'`,
    )
    expect(outcome).toMatchObject({ kind: 'answered', answer: { results: 1 } })
    expect(statuses).toEqual([{ status: 'queued' }, { status: 'processing', progress: 0.5 }])
  })

  test('an answer that has a status field is not taken for a status', async () => {
    expect(await run(`echo '{"results":1,"status":"success"}'`)).toMatchObject({ kind: 'answered' })
    expect(statuses).toEqual([])
  })

  test('a program that never reads its request can answer', async () => {
    expect(await run('exec 0<&-; echo 1')).toMatchObject({ kind: 'answered' })
  })
})

describe('failures', () => {
  test.each([
    ['another exit code than 0', `echo '{"results":1}'; exit 3`, /exit code 3/],
    ['no output', 'true', /no answer: JSON_SYNTAX/],
    ['no JSON', 'echo hello', /no answer: JSON_SYNTAX/],
    ['two values', 'echo 1; echo 2', /no answer: JSON_SYNTAX/],
    ['a status and no answer', `echo '{"status":"processing"}'`, /no answer/],
    ['JSON with a key twice', `echo '{"a":1,"a":2}'`, /JSON_DUPLICATE_KEY/],
    ['an error not in form', `echo '{"error":{"code":"lower case"}}'`, /MALFORMED/],
    ['a command that is not there', 'no-such-command-here', /exit code 127/],
  ])('%s', async (_name, command, why) => {
    const outcome = await run(command)
    expect(outcome).toMatchObject({ kind: 'failed', answer: HANDLER_FAILED, why: expect.stringMatching(why) })
  })

  test('too much output ends the program', async () => {
    const outcome = await run(node('for (;;) require("fs").writeSync(1, "x".repeat(65536))'))
    expect(outcome).toMatchObject({ kind: 'failed', why: `more than ${MAX_OUTPUT_BYTES} bytes of output` })
  })

  test('too long a time ends the program and what it started', async () => {
    const pidFile = join(folder, 'pid')
    const outcome = await run(`sleep 1000 & echo $! > ${pidFile}; wait`, 0.5)
    expect(outcome).toMatchObject({ kind: 'failed', why: 'no answer within 0.5 s' })
    await expect.poll(() => isRunning(Number(readFileSync(pidFile, 'utf8'))), { timeout: 10_000 }).toBe(false)
  })

  test('what a peer is told says nothing about this machine', async () => {
    const outcome = await run(`echo ${folder} >&2; exit 9`)
    expect(JSON.stringify(outcome.kind === 'failed' && outcome.answer)).not.toContain(folder)
  })
})

test('ending a program kills its whole group, and nobody is answered', async () => {
  const pidFile = join(folder, 'pid')
  const program = startProgram(
    `sleep 1000 & echo $! > ${pidFile}; echo '{"status":"queued"}'; wait`,
    REQUEST,
    { timeoutSeconds: 60, variables: [], onStatus: () => program.end('enough') },
  )
  expect(await program.outcome).toEqual({ kind: 'ended', why: 'enough' })
  await expect.poll(() => isRunning(Number(readFileSync(pidFile, 'utf8'))), { timeout: 10_000 }).toBe(false)
})

test("a peer's text is neither run nor in arguments nor in the environment", async () => {
  const outcome = await run(
    `cd ${folder} && ${node('console.log(JSON.stringify({ argv: process.argv, env: process.env, files: require("fs").readdirSync(".") }))')}`,
  )
  const { results } = (outcome as { answer: { results: { env: NodeJS.ProcessEnv; files: string[] } } }).answer
  expect(results.files).toEqual([])
  expect(JSON.stringify(results)).not.toContain('secret-of-the-peer')
  expect(results.env).toMatchObject({
    AGENTMESH_REQUEST_ID: REQUEST.id,
    AGENTMESH_SESSION_ID: REQUEST.session_id,
    AGENTMESH_FROM: REQUEST.from,
  })
})

/** A killed process ends in its own time, and may then stand in the table as a zombie until its parent has looked. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
