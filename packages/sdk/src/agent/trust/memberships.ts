/**
 * Whether this agent is in an organisation is its owner's decision (`agentmesh org join`, DESIGN §8). A registry that shows a
 * certificate of an organisation which the owner did not join is not believed: the certificate is left alone, and the owner
 * told once.
 */
import { certificateFromText, hasJoined, organizationAmid, type Certificate } from '../../identity/index.ts'
import { formatTimestamp } from '../../wire/index.ts'
import { audit, commit, type Core } from '../core.ts'

const REFUSED = 'organizations_refused'
/** So many are remembered as told of. */
const MAX_REFUSED = 32

/** What stands above an agent's certificate, unless the registry issued that itself. */
export function organizationIn(chain: readonly string[]): Certificate | undefined {
  const [, organization] = chain
  return organization === undefined ? undefined : certificateFromText(organization)
}

export class Memberships {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  /**
   * @param organization the issuer of an agent's certificate; undefined: the registry itself, which needs no joining
   * @throws HOME_DAMAGED, HOME_UNSAFE, HOME_FAILED: whether the owner joined is not known
   */
  holds(organization: Certificate | undefined): boolean {
    return organization === undefined || hasJoined(this.#core.home, organization)
  }

  /** A certificate of a joined organisation is this agent's now. */
  adopted(organization: Certificate): void {
    const name = nameOf(organization)
    const amid = organizationAmid(organization)
    audit(this.#core, { event: 'organization_joined', organization: name, amid })
    this.#tell(`This agent is a member of ${name}, as its owner agreed`)
  }

  /** A certificate was not taken, since the owner agreed to none of this organisation. */
  async refused(organization: Certificate): Promise<void> {
    const { meta } = this.#core.store.tables
    const name = nameOf(organization)
    const amid = organizationAmid(organization)
    const before = (meta.get(REFUSED) as string[] | undefined) ?? []
    if (before.includes(amid)) return
    await commit(this.#core, () => meta.put(REFUSED, [...before, amid].slice(-MAX_REFUSED)))
    audit(this.#core, { event: 'organization_refused', organization: name, amid })
    this.#tell(
      `${name} certified this agent, and its owner did not join it: the certificate is not used. To be its member, ` +
        `get the certificate from the organisation: agentmesh org join FILE`,
    )
  }

  #tell(text: string): void {
    this.#core.events.emit('notice', { at: formatTimestamp(this.#core.now()), about: 'organization', text })
  }
}

function nameOf(organization: Certificate): string {
  return organization.subject.organization ?? organizationAmid(organization)
}
