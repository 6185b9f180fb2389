/**
 * Who a CONNECT comes from (DESIGN §6). The nonce is this connection's own and the relay id its own address, so that a
 * signature seen elsewhere, earlier or at another relay is worth nothing here.
 */
import { verify } from '@agentmesh/sdk/crypto/signing'
import { checkAmid, connectSignatureParts } from '@agentmesh/sdk/identity'
import { AgentMeshError, CLOCK_SKEW_SECONDS, PROTOCOL_VERSIONS, type ConnectFrame } from '@agentmesh/sdk/wire'

export interface Challenge {
  readonly relayId: string
  readonly nonce: Uint8Array
}

/** @throws UNSUPPORTED_VERSION, CLOCK_SKEW, INVALID_KEY, AMID_MISMATCH, INVALID_SIGNATURE; the cheap ones first */
export function checkConnect(connect: ConnectFrame, challenge: Challenge, now: number): void {
  const operation = 'read CONNECT'
  if (!PROTOCOL_VERSIONS.includes(connect.protocol)) {
    throw new AgentMeshError('UNSUPPORTED_VERSION', undefined, { operation })
  }
  if (Math.abs(now - connect.timestamp) > CLOCK_SKEW_SECONDS * 1000) {
    throw new AgentMeshError('CLOCK_SKEW', undefined, { operation })
  }
  checkAmid(connect.amid, connect.publicKey)
  const parts = connectSignatureParts(
    challenge.relayId,
    challenge.nonce,
    connect.amid,
    connect.publicKey,
    connect.timestamp,
    connect.stateCounter,
  )
  if (!verify('connect', connect.publicKey, connect.signature, ...parts)) {
    throw new AgentMeshError('INVALID_SIGNATURE', undefined, { operation })
  }
}
