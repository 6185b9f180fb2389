/**
 * The registry as a program of its own: `node main.js --help` lists its options. Prints one JSON line with its address when it
 * listens; logs go to stderr. Ends with 2 for a mistake in the configuration, with 1 for any other failure.
 */
import { runMain } from '@agentmesh/sdk/hosting'
import { registryProgram } from './program.ts'

await runMain(registryProgram, ({ url, port, metricsPort }) => ({
  url,
  port,
  ...(metricsPort === undefined ? {} : { metrics_port: metricsPort }),
}))
