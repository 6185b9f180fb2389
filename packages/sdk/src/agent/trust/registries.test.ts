import { describe, expect, test } from 'vitest'
import type { RegistryClient } from '../../discovery/index.ts'
import { AgentMeshError, type AgentRecord, type Amid, type ErrorCode } from '../../wire/index.ts'
import { Registries } from './registries.ts'

const AMID = '5TeC66QiBsJaxeMtz9oEwMFQWBD' as Amid
const HOME = 'http://home.example'
const OTHER = 'https://other.example'

/** What each registry answers: a record naming that home, or a code. */
function mesh(answers: Record<string, { registry_endpoint?: string } | ErrorCode>, trusted = [OTHER]) {
  const asked: string[] = []
  const connect = (url: string): RegistryClient => {
    const lookup = async (amid: Amid) => {
      asked.push(url)
      const answer = answers[url] ?? 'AGENT_NOT_FOUND'
      if (typeof answer === 'string') throw new AgentMeshError(answer)
      return { amid, ...answer } as AgentRecord
    }
    return { lookup, url, close() {} } as unknown as RegistryClient
  }
  return { asked, registries: new Registries(`${HOME}/`, connect, () => trusted) }
}

const urlOf = (registry: RegistryClient): unknown => Reflect.get(registry, 'url')

describe('where a peer is looked up', () => {
  test('the own registry first, and nobody else when it knows', async () => {
    const { asked, registries } = mesh({ [HOME]: {} })
    expect(urlOf((await registries.find(AMID)).registry)).toBe(HOME)
    expect(asked).toEqual([HOME])
  })

  test('trusted ones when the own does not know', async () => {
    const { asked, registries } = mesh({ [OTHER]: { registry_endpoint: `${OTHER}/` } })
    expect(urlOf((await registries.find(AMID)).registry)).toBe(OTHER)
    expect(asked).toEqual([HOME, OTHER])
  })

  test('the home that the record names, when it is trusted', async () => {
    const { asked, registries } = mesh({ [HOME]: { registry_endpoint: OTHER }, [OTHER]: {} })
    expect(urlOf((await registries.find(AMID)).registry)).toBe(OTHER)
    expect(asked).toEqual([HOME, OTHER])
  })

  test('never an address that only a record names', async () => {
    const { asked, registries } = mesh({ [HOME]: { registry_endpoint: 'http://169.254.169.254' } })
    expect(urlOf((await registries.find(AMID)).registry)).toBe(HOME)
    expect(asked).toEqual([HOME])
  })

  test('is unknown only when every registry has said so', async () => {
    await expect(mesh({}).registries.find(AMID)).rejects.toMatchObject({ code: 'AGENT_NOT_FOUND' })
    const away = mesh({ [OTHER]: 'REGISTRY_UNREACHABLE' })
    await expect(away.registries.find(AMID)).rejects.toMatchObject({ code: 'REGISTRY_UNREACHABLE' })
  })

  test('a registry that lies is not passed over', async () => {
    const { registries } = mesh({ [HOME]: 'REGISTRY_ANSWER_INVALID', [OTHER]: {} })
    await expect(registries.find(AMID)).rejects.toMatchObject({ code: 'REGISTRY_ANSWER_INVALID' })
  })
})
