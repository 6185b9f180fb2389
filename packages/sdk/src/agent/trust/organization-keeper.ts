/**
 * Keeps what an organisation owes its agents, where this home is one (DESIGN §8): peers believe no certificate of an issuer
 * whose revocation list has run out, so the list is signed anew when half its life is over; and the organisation's own
 * certificate is taken from the registry when that has a newer one.
 */
import {
  certificateFromText,
  nextOrganizationList,
  readOrganization,
  updateOrganization,
} from '../../identity/index.ts'
import { formatTimestamp, isAgentMeshError, parseTimestamp } from '../../wire/index.ts'
import { audit, type Core } from '../core.ts'

const DAY_MS = 86_400_000
/** Before it runs out, a list is replaced: time for a registry that is away. */
const LIST_MARGIN_MS = 15 * DAY_MS

export class OrganizationKeeper {
  readonly #core: Core
  #askedAt: number | undefined

  constructor(core: Core) {
    this.#core = core
  }

  /** @throws what the registry throws; HOME_DAMAGED, HOME_FAILED */
  async keep(): Promise<void> {
    const { home, now } = this.#core
    const file = readOrganization(home)
    if (file?.certificate === undefined) return
    const isNew = await this.#renewCertificate(file.certificate)
    const until = file.list_until === undefined ? 0 : parseTimestamp(file.list_until)
    if (isNew || until - now() < LIST_MARGIN_MS) await this.#publishList()
  }

  async #publishList(): Promise<void> {
    const { home, identity, registries, now } = this.#core
    const list = nextOrganizationList(home, identity.signing, now())
    await registries.home.putCrl(list)
    const list_until = formatTimestamp(list.nextUpdate)
    updateOrganization(home, (file) => ({ ...file, list_until }))
    const { number, entries } = list
    audit(this.#core, { event: 'organization_list', number, entries: entries.size, next_update: list_until })
  }

  /** Asked once a day. @returns whether there is a newer one */
  async #renewCertificate(held: string): Promise<boolean> {
    const { home, identity, registries, config, now } = this.#core
    if (this.#askedAt !== undefined && Math.abs(now() - this.#askedAt) < DAY_MS) return false
    const certificate = await registries.home.organization(identity.amid).then(
      (record) => record.certificate,
      (error: unknown) => {
        // Not verified any more: its certificate is revoked, and the owner proves the domain again.
        if (!isAgentMeshError(error, 'ORGANIZATION_UNKNOWN')) throw error
        return undefined
      },
    )
    this.#askedAt = now()
    if (certificate === undefined || certificate === held) return false
    updateOrganization(home, (file) => ({ ...file, certificate }))
    const { serial, notAfter } = certificateFromText(certificate)
    const expires_at = formatTimestamp(notAfter)
    audit(this.#core, { event: 'certificate_renewed', registry: config.registry, serial, expires_at })
    return true
  }
}
