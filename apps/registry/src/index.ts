/** The AgentMesh registry: `startRegistry` runs one in this process, `main.ts` as a program. */
export {
  authorityFolder,
  findAuthority,
  initAuthority,
  type AuthorityKeys,
} from './authority/authority-keys.ts'
export {
  listIntermediates,
  renewIntermediate,
  renewRootList,
  revokeIntermediate,
} from './authority/root-operations.ts'
export { REGISTRY_DEFINITION } from './configuration.ts'
export { DEFAULT_LIMITS, type RegistryLimits } from './limits.ts'
export type { Rate } from './rate-limiter.ts'
export { registryProgram } from './program.ts'
export { startRegistry, type RegistryOptions, type RunningRegistry } from './server.ts'
