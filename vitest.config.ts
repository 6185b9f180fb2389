import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './tests/support/longest-first.ts'
import { SkippedReporter } from './tests/support/skipped-reporter.ts'

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const beside = '{packages,apps}/*/src/**/*.test.ts'
// It puts counters in the place of the primitives, for the whole process.
const alone = ['packages/sdk/src/crypto/ratchet-cost.test.ts']

export default defineConfig({
  resolve: {
    // Tests read workspace packages from source, so a stale build can never hide a change.
    alias: [
      { find: /^@agentmesh\/sdk$/, replacement: source('./packages/sdk/src/index.ts') },
      {
        find: /^@agentmesh\/sdk\/crypto\/signing$/,
        replacement: source('./packages/sdk/src/crypto/signing.ts'),
      },
      { find: /^@agentmesh\/sdk\/client$/, replacement: source('./packages/sdk/src/agent/client.ts') },
      { find: /^@agentmesh\/sdk\/(.*)$/, replacement: source('./packages/sdk/src') + '/$1/index.ts' },
      { find: /^@agentmesh\/relay$/, replacement: source('./apps/relay/src/index.ts') },
      { find: /^@agentmesh\/registry$/, replacement: source('./apps/registry/src/index.ts') },
    ],
  },
  test: {
    globalSetup: source('./tests/support/postgres-user.ts'),
    projects: [
      // Suites beside the code share a process, which loads the code once: loading is half of their time.
      { extends: true, test: { name: 'code', include: [beside], exclude: alone, isolate: false } },
      { extends: true, test: { name: 'whole', include: ['tests/**/*.test.ts', ...alone] } },
    ],
    sequence: { sequencer: LongestFirst },
    // Half of the suites wait for processes of their own, so no core needs to be kept free.
    maxWorkers: availableParallelism(),
    reporters: ['default', new SkippedReporter()],
    // Only for what hangs: a loaded machine starts a process in seconds, and a test may start ten.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 60_000 } },
  },
})
