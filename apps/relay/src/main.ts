/**
 * The relay as a program of its own: `node main.js --help` lists its options. Prints one JSON line with its address when it
 * listens; logs go to stderr. Ends with 2 for a mistake in the configuration, with 1 for any other failure.
 */
import { runMain } from '@agentmesh/sdk/hosting'
import { relayProgram } from './program.ts'

await runMain(relayProgram, ({ url, relayIds, metricsPort }) => ({
  url,
  relayIds,
  ...(metricsPort === undefined ? {} : { metrics_port: metricsPort }),
}))
