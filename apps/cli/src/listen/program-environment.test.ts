import type { Amid, IncomingRequest, MessageId, SessionId } from '@agentmesh/sdk'
import { expect, test } from 'vitest'
import { UsageError } from '../exit-codes.ts'
import { programEnvironment, requireProgramVariables } from './program-environment.ts'

const REQUEST = {
  id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff' as MessageId,
  from: '5TeC66QiBsJaxeMtz9oEwMFQWBD' as Amid,
  session_id: '0f9619ff-8b86-4011-b42d-00cf4fc964ff' as SessionId,
} as IncomingRequest
const ABOUT_THE_REQUEST = {
  AGENTMESH_REQUEST_ID: REQUEST.id,
  AGENTMESH_SESSION_ID: REQUEST.session_id,
  AGENTMESH_FROM: REQUEST.from,
}
const SECRETS = {
  AGENTMESH_PASSPHRASE: 'secret',
  AGENTMESH_CA_PASSPHRASE: 'secret',
  AGENTMESH_FROM: 'somebody else',
  AGENTMESH_HOME: '/homes/anna',
  AWS_SECRET_ACCESS_KEY: 'secret',
  LD_PRELOAD: '/tmp/evil.so',
}

test('a program gets what it needs to run, and no secret of the shell', () => {
  const own = { PATH: '/bin', LC_ALL: 'C.UTF-8', TZ: 'UTC', ...SECRETS }
  expect(programEnvironment(own, [], REQUEST)).toEqual({
    PATH: '/bin',
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    ...ABOUT_THE_REQUEST,
  })
})

test('a program gets what its owner names, if it is set', () => {
  expect(programEnvironment({ TOKEN: 'x', OTHER: 'y' }, ['TOKEN', 'UNSET'], REQUEST)).toEqual({
    TOKEN: 'x',
    ...ABOUT_THE_REQUEST,
  })
})

test.each(['AGENTMESH_PASSPHRASE', 'agentmesh_passphrase', 'AGENTMESH_FROM', 'A=b', '', 'A B', '*'])(
  'refuses to hand on %j',
  (name) => {
    expect(() => requireProgramVariables(['TOKEN', name])).toThrow(UsageError)
  },
)
