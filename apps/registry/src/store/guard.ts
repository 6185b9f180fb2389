/** What every sub-store does with a failing database. */
import { AgentMeshError, isAgentMeshError } from '@agentmesh/sdk/wire'

/** Driver errors become ours; what the database says goes to the log as the cause, never to a client. */
export async function guarded<T>(operation: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (isAgentMeshError(cause)) throw cause
    throw new AgentMeshError('STORE_FAILED', undefined, { operation, cause })
  }
}
