/**
 * Writes the tables of the rules by which a policy decides into spec/knock.md and docs/owners.md, between their markers. Reads the
 * built list: run `tsc -b` first.
 */
import { RULES } from '../packages/sdk/dist/session/index.js'
import { insertTables } from './insert-tables.mjs'

const code = (text) => '`' + text + '`'

/** @type {Readonly<Record<string, string>>} */
const HOLDS = { peer: 'peers', knock: 'KNOCKs', request: 'requests' }

function forImplementers() {
  const rows = RULES.map((rule) => {
    const holds = HOLDS[rule.of] + (rule.alsoChosen === true ? ', also chosen' : '')
    const told = rule.of === 'request' ? rule.code : rule.reason
    return `| ${code(rule.rule)} | ${holds} | ${rule.fails} | ${code(told)} |`
  })
  return ['| rule | of | fails when | reason, code |', '| --- | --- | --- | --- |', ...rows]
}

function forOwners() {
  const yes = (holds) => (holds ? 'yes' : '')
  const rows = RULES.map(({ rule, of }) => {
    const doors = [of !== 'request', of === 'peer', of !== 'knock'].map(yes)
    return `| ${code(rule)} | ${doors.join(' | ')} |`
  })
  return ['| rule | KNOCK | open session | request |', '| --- | --- | --- | --- |', ...rows]
}

await insertTables('spec/knock.md', { rules: forImplementers() })
await insertTables('docs/owners.md', { rules: forOwners() })
