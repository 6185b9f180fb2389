/** Names every test that could not run on this machine: its title says what it misses. A chosen subset is no skip. */
import type { Reporter, TestModule, Vitest } from 'vitest/node'

export class SkippedReporter implements Reporter {
  #chosen = false

  onInit(vitest: Vitest): void {
    this.#chosen = vitest.config.testNamePattern !== undefined
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (this.#chosen) return
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        console.log(`skipped: ${module.relativeModuleId} > ${test.fullName}`)
      }
    }
  }
}
