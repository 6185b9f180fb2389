/** The operator's door: who may use it, what he can do, and whom he does not serve. */
export { authorize, parseAdministrators, type Administrator } from './auth.ts'
export { refuseBanned } from './bans.ts'
export { addAdminRoutes } from './routes.ts'
