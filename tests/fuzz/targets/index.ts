/** Every reader of outside bytes, by the name of its target. */
import type { TargetMaker } from '../target.ts'
import { CERTIFICATE_TARGETS } from './certificates.ts'
import { CRYPTO_TARGETS } from './crypto.ts'
import { IDENTITY_TARGETS } from './identity.ts'
import { MESSAGE_TARGETS } from './messages.ts'
import { NETWORK_TARGETS } from './network.ts'
import { OWNER_TARGETS } from './owner.ts'
import { SESSION_TARGETS } from './session.ts'
import { TRANSPARENCY_TARGETS } from './transparency.ts'
import { WIRE_TARGETS } from './wire.ts'

export const TARGETS: Readonly<Record<string, TargetMaker>> = {
  ...WIRE_TARGETS,
  ...IDENTITY_TARGETS,
  ...TRANSPARENCY_TARGETS,
  ...CERTIFICATE_TARGETS,
  ...CRYPTO_TARGETS,
  ...SESSION_TARGETS,
  ...MESSAGE_TARGETS,
  ...OWNER_TARGETS,
  ...NETWORK_TARGETS,
}
