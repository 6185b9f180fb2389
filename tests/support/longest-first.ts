/**
 * The order of the suites: the longest first, so that no worker is left with a long one while the others have ended; and
 * the suites that share a process last and together, because a process is kept only for the next suite that shares.
 */
import { statSync } from 'node:fs'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Those that take longest for their size, longest first. Of the others the size tells enough. */
const LONGEST = [
  'tests/faults/kill-run.test.ts',
  'tests/faults/machine.test.ts',
  'tests/fuzz/fuzz.test.ts',
  'tests/house/checks.test.ts',
  'tests/fuzz/engine.test.ts',
  'tests/faults/disk.test.ts',
  'tests/faults/frame-proxy.test.ts',
  'tests/e2e/cli-agents.test.ts',
  'tests/e2e/relays.test.ts',
  'tests/e2e/cli-owner.test.ts',
  'tests/e2e/process-talk.test.ts',
  'tests/e2e/demo.test.ts',
  'tests/e2e/process-owner.test.ts',
  'tests/e2e/process-servers.test.ts',
  'tests/e2e/process-crash.test.ts',
  'apps/registry/src/store/reputation-store.test.ts',
  'apps/registry/src/reputation/simulation.test.ts',
]

function rank({ moduleId, project }: TestSpecification): [shares: number, place: number, size: number] {
  const place = LONGEST.findIndex((path) => moduleId.endsWith(`/${path}`))
  return [project.config.isolate ? 0 : 1, place === -1 ? LONGEST.length : place, -statSync(moduleId).size]
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const ranked = files.map((file) => ({ file, rank: rank(file) }))
    ranked.sort((left, right) => {
      const at = left.rank.findIndex((value, index) => value !== right.rank[index])
      return at === -1 ? 0 : left.rank[at]! - right.rank[at]!
    })
    return ranked.map(({ file }) => file)
  }
}
