import { expect, test } from 'vitest'
import { childEnvironment } from './child-environment.ts'

test('no passphrase or token of ours reaches a program that we start', () => {
  const own = {
    PATH: '/bin',
    AGENTMESH_HOME: '/homes/anna',
    AGENTMESH_PASSPHRASE: 'secret',
    AGENTMESH_CA_PASSPHRASE: 'secret',
    AGENTMESH_REGISTRY_ADMIN_TOKEN: 'secret',
    AGENTMESH_RELAY_TURN_SECRET: 'secret',
    AGENTMESH_OF_TOMORROW: 'secret',
    agentmesh_passphrase: 'secret',
  }
  expect(childEnvironment(own)).toEqual({ PATH: '/bin', AGENTMESH_HOME: '/homes/anna' })
})
