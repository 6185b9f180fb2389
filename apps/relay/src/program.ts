/** The relay as a program, for its own `main.ts` and for `agentmesh relay`. */
import { logOptions, type ServerProgram } from '@agentmesh/sdk/hosting'
import { pino } from 'pino'
import { checkRelaySettings, RELAY_DEFINITION, relayOptions } from './configuration.ts'
import type { RunningRelay } from './relay-options.ts'
import { startRelay } from './server.ts'

export const relayProgram: ServerProgram<typeof RELAY_DEFINITION.schema, RunningRelay> = {
  definition: RELAY_DEFINITION,
  check: checkRelaySettings,
  start: (settings) =>
    startRelay({
      ...relayOptions(settings),
      logger: pino(logOptions('relay', settings.logLevel), pino.destination(2)),
    }),
}
