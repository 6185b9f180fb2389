/** The registry as a program, for its own `main.ts` and for `agentmesh registry`. */
import { logOptions, type ServerProgram } from '@agentmesh/sdk/hosting'
import { pino } from 'pino'
import { checkRegistrySettings, REGISTRY_DEFINITION, registryOptions } from './configuration.ts'
import { startRegistry, type RunningRegistry } from './server.ts'

export const registryProgram: ServerProgram<typeof REGISTRY_DEFINITION.schema, RunningRegistry> = {
  definition: REGISTRY_DEFINITION,
  check: checkRegistrySettings,
  start: async (settings) =>
    startRegistry({
      ...registryOptions(settings),
      logger: pino(logOptions('registry', settings.logLevel), pino.destination(2)),
    }),
}
