/** Reputation in the registry: formula, evaluation, endpoints (specification §8.3, `spec/reputation.md`). */
export * from './evaluation.ts'
export * from './people.ts'
export { addReputationRoutes } from './routes.ts'
