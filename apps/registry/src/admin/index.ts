/** The operator's door: who may use it, what he can do, and whom he does not serve. */
export { parseAdministrators, type Administrator } from './auth.ts'
export { addAdminRoutes } from './routes.ts'
