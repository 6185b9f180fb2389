import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './tests/support/longest-first.ts'
import { SkippedReporter } from './tests/support/skipped-reporter.ts'

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

// Those that put counters in the place of primitives, watch a whole process, or look at the repository.
const alone = [
  'packages/sdk/src/crypto/ratchet-cost.test.ts',
  'packages/sdk/src/agent/chain-budget.test.ts',
  'tests/{deploy,faults,fuzz,house}/**/*.test.ts',
]
const shared = ['{packages,apps}/*/src/**/*.test.ts', 'tests/**/*.test.ts']

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
      // Suites that share a process load the code once: loading it is half of what many take.
      { extends: true, test: { name: 'shared', include: shared, exclude: alone, isolate: false } },
      { extends: true, test: { name: 'alone', include: alone } },
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
