import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import * as bounds from './bounds.ts'
import * as constants from './constants.ts'

const spec = readFileSync(new URL('../../../../spec/reputation.md', import.meta.url), 'utf8').replaceAll(
  /\s+/g,
  ' ',
)
const DAY = 86_400_000
const HOUR = 3_600_000
const shown = (bound: number) => bound.toFixed(3)

describe('spec/reputation.md', () => {
  it.each([
    [
      'the formula',
      '0.3 completion + 0.4 feedback + 0.1 age + 0.2 tier',
      [0.3, 0.4, 0.1, 0.2],
      Object.values(constants.TERM_WEIGHTS),
    ],
    [
      'the tiers',
      'anonymous 0, verified 0.5, organization 1',
      [0, 0.5, 1],
      Object.values(constants.TIER_TERM),
    ],
    [
      'the prior',
      '(10 * 5/7 + sum(weight * mean)) / (10 + sum(weight))',
      [10, 5 / 7],
      [constants.PRIOR_WEIGHT, constants.PRIOR_MEAN],
    ],
    [
      'the voices',
      'anonymous 0.1, verified 0.8, organization 1',
      [0.1, 0.8, 1],
      Object.values(constants.VOICE_WEIGHT),
    ],
    ['the anonymous cap', '| anonymous voices | 1 |', 1, constants.ANONYMOUS_CAP],
    ['the unsupported cap', 'the unsupported part | 2 |', 2, constants.UNSUPPORTED_CAP],
    ['the supported cap', 'the supported part | 20, newest first', 20, constants.SUPPORTED_CAP],
    [
      'decay',
      'halved every 60 days and forgotten after 360',
      [60, 360],
      [constants.HALF_LIFE_MS / DAY, constants.FORGET_EVIDENCE_MS / DAY],
    ],
    ['age', 'days / (days + 180)', 180, constants.AGE_HALF_MS / DAY],
    [
      'the work',
      'the 256 newest named and the 32 newest anonymous voices, and 16 supporters',
      [256, 32, 16],
      [constants.MAX_NAMED_VOICES, constants.MAX_ANONYMOUS_VOICES, constants.MAX_SUPPORTERS],
    ],
    ['the window', 'closed at most 7 days ago', 7, constants.FEEDBACK_WINDOW_MS / DAY],
    ['the delay', 'at the earliest 10 minutes later', 10, constants.EVALUATION_DELAY_MS / 60_000],
    ['rapid change', 'more than 0.05 from it is held', 0.05, constants.RAPID_CHANGE],
    [
      'the holds',
      'a rise is published after 72 hours and a fall after 24',
      [72, 24],
      [constants.HOLD_RISE_MS / HOUR, constants.HOLD_FALL_MS / HOUR],
    ],
    ['the credential', 'valid for 12 hours', 12, constants.CREDENTIAL_LIFE_MS / HOUR],
  ])('states %s as the code has it', (_what, text, stated, coded) => {
    expect(spec).toContain(text)
    expect(coded).toEqual(stated)
  })

  it.each([
    ['any number of anonymous agents, in praise or slander', shown(bounds.SWARM_BOUND)],
    ['one person with all agents of his', shown(bounds.HUMAN_BOUND)],
    ['one organisation with its fleet', shown(bounds.ORGANIZATION_BOUND)],
    ['whom nobody outside supports', shown(bounds.cliqueBound(100, 0))],
    ['hours that the published score hides it', String(bounds.CHEAT_LAG_MS / HOUR)],
    ['victims until the score is below where it began', String(bounds.CHEAT_VICTIMS)],
  ])('states the bound of: %s', (attack, bound) => {
    const row = spec.slice(spec.indexOf(attack), spec.indexOf(attack) + 80 + attack.length)
    expect(row.slice(attack.length)).toContain(` ${bound} `)
  })
})
