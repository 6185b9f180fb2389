/** What may stand in a log of clients. */
import { expect, test } from 'vitest'
import { loggedError, scrub } from './log-privacy.ts'

test.each([
  ['connect ECONNREFUSED 198.51.100.77:5432', 'connect ECONNREFUSED 198.51.100.0/24:5432'],
  ['from ::ffff:198.51.100.77 too', 'from 198.51.100.0/24 too'],
  ['peer 2001:db8:1:2:3:4:5:6 left', 'peer 2001:db8:1::/48 left'],
  ['peer [2001:db8::77] left', 'peer [2001:db8:0::/48] left'],
  ['postgres://agentmesh:hunter2@db/registry', 'postgres://****@db/registry'],
  ['Key (amid)=(5TeC66QiBsJaxeMtz9oEwMFQWBD) already exists', 'Key (amid)=(5TeC66…) already exists'],
  ['nonce q83vEjRWeJCrze8SNFZ4kKvN7xI=', 'nonce q83vEj…'],
  ['6f9619ff8b8640118b2d00cf4fc964ff', '6f9619…'],
  [
    'relation "one_time_prekeys_expiry_and_more" does not exist',
    'relation "one_time_prekeys_expiry_and_more" does not exist',
  ],
  [
    'unable to open /var/lib/agentmesh/mailboxes-of-relay.db',
    'unable to open /var/lib/agentmesh/mailboxes-of-relay.db',
  ],
  ['at 12:34:56', 'at 12:34:56'],
  ['version 18.4.0.1', 'version 18.4.0.0/24'],
])('cuts %j', (text, expected) => {
  expect(scrub(text)).toBe(expected)
})

test('an error is what we say of it, and not what a driver hung on it', () => {
  const cause = Object.assign(new Error('for 198.51.100.77'), {
    code: '23505',
    detail: 'Key (amid)=(5TeC66QiB)',
  })
  const logged = loggedError(new Error('not stored', { cause })) as { stack: string[] }
  expect(logged).toEqual({
    type: 'Error',
    message: 'not stored',
    stack: expect.any(Array) as string[],
    cause: {
      type: 'Error',
      code: '23505',
      message: 'for 198.51.100.0/24',
      stack: expect.any(Array) as string[],
    },
  })
  expect(logged.stack[0]).toMatch(/^at .*log-privacy/)
  expect(JSON.stringify(logged)).not.toMatch(/\.77|detail|5TeC66QiB/)
})

test('what is thrown and no error is text, and a ring of causes ends', () => {
  expect(loggedError('gone 198.51.100.77')).toEqual({ message: 'gone 198.51.100.0/24' })
  const ring = new Error('ring')
  ring.cause = ring
  expect(JSON.stringify(loggedError(ring)).match(/"ring"/g)).toHaveLength(5)
})
