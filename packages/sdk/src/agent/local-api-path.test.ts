import { expect, it } from 'vitest'
import { defaultHomePath } from './local-api-path.ts'

it('the home is AGENTMESH_HOME, else in the user’s own folder', () => {
  expect(defaultHomePath({ AGENTMESH_HOME: '/srv/agent' })).toBe('/srv/agent')
  expect(defaultHomePath({})).toMatch(/[/\\]\.agentmesh$/)
  expect(defaultHomePath({ AGENTMESH_HOME: '' })).toMatch(/[/\\]\.agentmesh$/)
})
