/** An agent that publishes good keys, opens the KNOCKs it gets, and answers them as it likes. */
import { ed25519KeyPair, kemKeyPair, sign, systemRandom, x25519KeyPair } from '@agentmesh/sdk/crypto/signing'
import {
  identityFromKeyPair,
  makeExchangeKey,
  makeLastResortKemPrekey,
  makeSignedPrekey,
  signRegistration,
  type Identity,
} from '@agentmesh/sdk/identity'
import {
  amidToBytes,
  canonicalBytes,
  encodeAnswerPacket,
  formatTimestamp,
  newMessageId,
  toBase64,
  utf8Bytes,
  type Accept,
  type Amid,
} from '@agentmesh/sdk/wire'
import { ownRatchetKey, ratchetEncrypt, ratchetRespond } from '../../packages/sdk/src/crypto/index.ts'
import { HttpRegistryClient } from '../../packages/sdk/src/discovery/index.ts'
import { deriveSessionId, keyConfirmation } from '../../packages/sdk/src/session/handshake.ts'
import {
  associatedData,
  createAccept,
  grantConstraints,
  openKnock,
  type KeyLookup,
} from '../../packages/sdk/src/session/index.ts'
import { RelayConnection, type ReceivedMessage } from '../../packages/sdk/src/transport/index.ts'

const random = systemRandom

type UnsignedAccept = Omit<Accept, 'signature'>

export class HostileResponder {
  readonly identity: Identity = identityFromKeyPair(ed25519KeyPair(random(32)))
  readonly #options = { startId: 1, sequence: 1, random, now: Date.now() }
  readonly #exchange = makeExchangeKey(this.identity, this.#options)
  readonly #signed = makeSignedPrekey(this.identity, this.#options)
  readonly #lastResort = makeLastResortKemPrekey(this.identity, this.#options)
  readonly #relay: RelayConnection
  readonly #registry: HttpRegistryClient
  readonly #change: (accept: UnsignedAccept) => UnsignedAccept
  /** Every packet that came. */
  readonly packets: ReceivedMessage[] = []
  #answered: Promise<void> | undefined

  /** @param change what it says instead of what an honest agent would; the key confirmation fits the id it says */
  private constructor(relay: string, registry: string, change: (accept: UnsignedAccept) => UnsignedAccept) {
    const now = Date.now
    this.#change = change
    this.#registry = new HttpRegistryClient(registry, this.identity, { now, random })
    this.#relay = new RelayConnection({
      url: relay,
      identity: this.identity,
      onReceive: (message) => this.#receive(message),
      onState: () => {},
      random,
      now,
    })
  }

  static async open(
    network: { relay: { url: string }; registry: { url: string } },
    change: (accept: UnsignedAccept) => UnsignedAccept,
  ): Promise<HostileResponder> {
    const peer = new HostileResponder(network.relay.url, network.registry.url, change)
    await peer.#registry.register(
      signRegistration(peer.identity, {
        exchange_key: peer.#exchange.record,
        capabilities: [],
        relay_endpoint: network.relay.url,
        direct_endpoint: null,
        p2p_capable: false,
        sequence: 1,
        created_at: formatTimestamp(Date.now()),
      }),
    )
    await peer.#registry.uploadPrekeys({
      signed_prekey: peer.#signed.record,
      last_resort_kem_prekey: peer.#lastResort.record,
      one_time_prekeys: [],
      one_time_kem_prekeys: [],
    })
    await peer.#relay.connect()
    return peer
  }

  get amid(): Amid {
    return this.identity.amid
  }

  #receive(message: ReceivedMessage): void {
    message.ack()
    this.packets.push(message)
    if (message.type === 'knock') this.#answered = this.#accept(message)
  }

  async #accept({ from, payload }: ReceivedMessage): Promise<void> {
    const keys: KeyLookup = {
      find: () => ({
        exchangeKeys: [x25519KeyPair(this.#exchange.secret)],
        signedPrekey: x25519KeyPair(this.#signed.secret),
        versions: this.#signed.record.versions ?? [],
        kemKey: kemKeyPair(this.#lastResort.secret),
      }),
      headerSeen: () => false,
    }
    const environment = { random, now: Date.now() }
    const opened = openKnock(payload, from, { identity: this.identity, keys }, environment)
    const constraints = grantConstraints(opened.knock.session_request)
    const { signature: _, ...honest } = createAccept(
      opened,
      { identity: this.identity, constraints },
      environment,
    ).accept
    const ratchet = ratchetRespond(opened.keys, opened.ratchetKey, opened.kemKey, environment)
    const session_id = deriveSessionId(ratchet, opened.transcript)
    const said = this.#change({ ...honest, session_id })
    const accept = {
      ...said,
      session_key: toBase64(keyConfirmation(ratchet, opened.transcript, said.session_id)),
    }
    const signature = sign(
      'accept',
      this.identity.signing.secretKey,
      opened.transcript,
      amidToBytes(from),
      amidToBytes(this.amid),
      ownRatchetKey(ratchet)!,
      canonicalBytes(accept),
    )
    const { version, knockHash } = opened
    const place = associatedData({ type: 'accept', version, context: knockHash, from: this.amid, to: from })
    const text = utf8Bytes(JSON.stringify({ ...accept, signature: toBase64(signature) }))
    const { message: ratchetMessage } = ratchetEncrypt(ratchet, text, place, environment)
    const packet = encodeAnswerPacket({ knockHash, ratchetMessage })
    await this.#relay.send({ id: newMessageId(random), to: from, type: 'accept', payload: packet })
  }

  async close(): Promise<void> {
    await this.#answered
    this.#registry.close()
    await this.#relay.close()
  }
}
