/** What the state of a home that no daemon serves remembers of its audit log. */
import { join } from 'node:path'
import { systemRandom } from '../crypto/index.ts'
import { Home, openIdentity } from '../identity/index.ts'
import { hasAuditLog, type AuditRecord } from '../observability/index.ts'
import { AUDIT_FOLDER, auditRecord } from './audit-trail.ts'
import { StateCounter } from './state-counter.ts'
import { acquireLock, StateStore } from './store/index.ts'
import { STORE_LAYOUT, UNGUARDED_TABLES } from './tables.ts'

const STATE_FILE = 'state.db'

/** @throws HOME_*, PASSPHRASE_REQUIRED, PASSPHRASE_WRONG, STATE_* */
export function readAuditRecord(path: string, passphrase?: string): AuditRecord {
  const home = Home.open(path)
  const { storageKey } = openIdentity(home, passphrase === undefined ? {} : { passphrase })
  const unlock = acquireLock(home.path, Date.now)
  try {
    if (!home.has(STATE_FILE)) {
      const wasThere = home.has('state.mark') || hasAuditLog(join(home.path, AUDIT_FOLDER))
      return wasThere
        ? { doubt: 'state.db, which remembers where the log ended, is gone', gaps: [] }
        : { gaps: [] }
    }
    const store = StateStore.open(home.file(STATE_FILE), storageKey, {
      ...STORE_LAYOUT,
      random: systemRandom,
    })
    try {
      const { meta } = store.tables
      const compared = new StateCounter(home).compare(meta)
      const isChanged = store.changedTables().some((table) => !UNGUARDED_TABLES.includes(table))
      const found = isChanged && compared === 'same' ? 'older' : compared
      return auditRecord(meta, { found, wasUsed: meta.count() > 0 }, home)
    } finally {
      store.close()
    }
  } finally {
    unlock()
  }
}
