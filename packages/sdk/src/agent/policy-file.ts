/**
 * `policy.json`, read while the agent runs (specification §7.3, DESIGN §9). A good edit is in force at the next KNOCK; a
 * bad one leaves the last good policy in force and says what is wrong with it.
 */
import { lstatSync } from 'node:fs'
import type { Home } from '../identity/index.ts'
import type { AuditFields } from '../observability/index.ts'
import { defaultPolicy, parsePolicy, type Policy } from '../session/index.ts'
import { AgentMeshError, canonicalText, isAgentMeshError, utf8Bytes, utf8Text } from '../wire/index.ts'

export const POLICY_FILE = 'policy.json'

/** Who put a policy there: an edit of the file, unless it came through `replace`. */
export type PolicySource = AuditFields['policy_changed']['by']

export interface PolicyWatcher {
  /** A new policy is in force. */
  changed(policy: Policy, before: Policy, by: PolicySource): void
  /** The file has a mistake; the policy before it stays in force. */
  refused(problem: string): void
}

export class PolicyFile {
  readonly #home: Home
  readonly #path: string
  readonly #watchers: PolicyWatcher[] = []
  #policy: Policy
  #stamp = ''
  #error: string | undefined

  /** Reads the file, writing the default policy when there is none. @throws POLICY_INVALID: an agent does not start open. */
  constructor(home: Home) {
    this.#home = home
    this.#path = home.file(POLICY_FILE)
    const bytes = home.readFile(POLICY_FILE)
    this.#policy = bytes === undefined ? defaultPolicy() : parsePolicy(utf8Text(bytes))
    if (bytes === undefined) this.#save(this.#policy)
    this.#stamp = this.#fileStamp()
  }

  #fileStamp(): string {
    const stats = lstatSync(this.#path, { throwIfNoEntry: false })
    if (!stats) return ''
    // A file that was refused for its mode or its owner is looked at again once that changed, which ctime tells too.
    const { mtimeMs, ctimeMs, size, ino, mode, uid } = stats
    return `${mtimeMs} ${ctimeMs} ${size} ${ino} ${mode} ${uid}`
  }

  /** The policy in force, after a look whether the file changed. */
  current(): Policy {
    return this.#look('file')
  }

  #look(by: PolicySource): Policy {
    const stamp = this.#fileStamp()
    if (stamp === this.#stamp) return this.#policy
    this.#stamp = stamp
    const before = this.#policy
    try {
      const bytes = this.#home.readFile(POLICY_FILE)
      if (bytes === undefined) throw new AgentMeshError('POLICY_INVALID', `${POLICY_FILE} is gone`)
      this.#policy = parsePolicy(utf8Text(bytes))
      this.#error = undefined
    } catch (error) {
      if (!isAgentMeshError(error)) throw error
      this.#error = error.message
      for (const watcher of this.#watchers) watcher.refused(error.message)
      return this.#policy
    }
    for (const watcher of this.#watchers) watcher.changed(this.#policy, before, by)
    return this.#policy
  }

  /** What is wrong with the file, while the last good policy stays in force. */
  error(): string | undefined {
    this.current()
    return this.#error
  }

  watch(watcher: PolicyWatcher): void {
    this.#watchers.push(watcher)
  }

  /** Checks and writes a policy; in force when it returns. @throws POLICY_INVALID, HOME_FAILED; then the old one stays */
  replace(policy: unknown, by: PolicySource): Policy {
    const checked = parsePolicy(JSON.stringify(policy))
    this.#save(checked)
    return this.#look(by)
  }

  #save(policy: Policy): void {
    this.#home.writeFile(POLICY_FILE, utf8Bytes(`${JSON.stringify(policy, null, 2)}\n`))
  }
}

/** The fields in which two policies differ. */
export function changedFields(policy: Policy, before: Policy): string[] {
  const old: Record<string, unknown> = before
  return Object.entries(policy)
    .filter(([name, value]) => canonicalText(value) !== canonicalText(old[name]))
    .map(([name]) => name)
}
