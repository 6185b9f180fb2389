/**
 * A person vouches for the agent at the registry (tier 1, DESIGN §8; spec/registry.md). For whoever sits before a browser
 * or a terminal: the daemon has no use for it.
 */
import type {
  VerificationDeviceFinish,
  VerificationDeviceStarted,
  VerificationEmailFinish,
  VerificationEmailStarted,
  VerificationFinish,
  VerificationPending,
  VerificationProviders,
  VerificationResult,
  VerificationStart,
  VerificationStarted,
} from '../wire/index.ts'

/**
 * Methods throw as those of `RegistryClient`; of the registry's codes expect TIER_UNAVAILABLE, PROVIDER_UNKNOWN,
 * PROVIDER_UNAVAILABLE, VERIFICATION_UNKNOWN, VERIFICATION_REFUSED, VERIFIED_BY_ANOTHER, AGENTS_OF_HUMAN_LIMIT and
 * NOT_REGISTERED.
 */
export interface VerificationClient {
  verificationProviders(): Promise<VerificationProviders>
  startVerification(start: VerificationStart): Promise<VerificationStarted>
  finishVerification(finish: VerificationFinish): Promise<VerificationResult>
  startDeviceVerification(provider: string): Promise<VerificationDeviceStarted>
  finishDeviceVerification(
    finish: VerificationDeviceFinish,
  ): Promise<VerificationResult | VerificationPending>
  startEmailVerification(provider: string, address: string): Promise<VerificationEmailStarted>
  finishEmailVerification(finish: VerificationEmailFinish): Promise<VerificationResult>
}
