/**
 * Adds up vitest's JSON reports. A skipped test, a file that did not load and a missing report count as failed, each
 * named: where this runs, every server and tool a test wants is meant to be there.
 *
 * Usage: node tools/summarize-tests.mjs <folder of reports> <exit status of the test run> [failed step...]
 * Last line printed: `N passed, N failed`. Exit code 1 unless something passed and nothing failed.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const [folder, testStatus, ...failedSteps] = process.argv.slice(2)
const problems = []
let passed = 0

const reports = readdirSync(folder).filter((name) => name.endsWith('.json'))
if (reports.length === 0) problems.push('no test report was written')

for (const report of reports) {
  const { testResults } = JSON.parse(readFileSync(join(folder, report), 'utf8'))
  for (const file of testResults) {
    if (file.assertionResults.length === 0) problems.push(`no test ran: ${file.name} ${file.message}`)
    for (const test of file.assertionResults) {
      if (test.status === 'passed') passed += 1
      else problems.push(`${test.status}: ${file.name} > ${test.fullName}`)
    }
  }
}

// An error outside every test, as an unhandled rejection, shows in the exit status only.
if (testStatus !== '0' && problems.length === 0) problems.push(`the test run ended with status ${testStatus}`)
problems.push(...failedSteps.map((step) => `step failed: ${step}`))

for (const problem of problems) console.log(problem)
console.log(`${passed} passed, ${problems.length} failed`)
process.exitCode = passed > 0 && problems.length === 0 ? 0 : 1
