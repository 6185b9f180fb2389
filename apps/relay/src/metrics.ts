/** `/metrics` in the Prometheus text format. Nothing is counted here: every value is read when it is scraped. */
import type { ListenerTls } from '@agentmesh/sdk/hosting'
import { Counter, Gauge, Registry } from 'prom-client'
import type { Cluster } from './cluster/cluster.ts'
import type { Counters } from './counters.ts'
import type { Mailbox } from './mailbox.ts'
import type { Router } from './router.ts'
import type { Senders } from './senders.ts'
import type { SocketGuard } from './socket-guard.ts'

export interface MetricsSources {
  readonly counters: Counters
  readonly router: Router
  readonly senders: Senders
  readonly mailbox: Mailbox
  readonly guard: SocketGuard
  readonly cluster: Cluster | undefined
  readonly tls: ListenerTls | undefined
}

export function metricsRegistry({
  counters,
  router,
  senders,
  mailbox,
  guard,
  cluster,
  tls,
}: MetricsSources): Registry {
  const registry = new Registry()
  const registers = [registry]

  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const counter = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  const byCode = (name: string, help: string, read: () => ReadonlyMap<string, number>) =>
    new Counter({
      name,
      help,
      labelNames: ['code'],
      registers,
      collect() {
        this.reset()
        for (const [code, value] of read()) this.inc({ code }, value)
      },
    })

  gauge('agentmesh_relay_sockets', 'Open TCP connections', () => guard.open)
  gauge('agentmesh_relay_agents', 'Connected agents', () => router.connected)
  gauge('agentmesh_relay_senders', 'Connections that only send', () => senders.open)
  gauge(
    'agentmesh_relay_window_bytes',
    'Payload bytes delivered and not acknowledged',
    () => router.windowBytes,
  )
  gauge(
    'agentmesh_relay_unfinished_bytes',
    'Memory for messages whose end has not come',
    () => counters.unfinishedBytes,
  )
  gauge('agentmesh_relay_mailbox_messages', 'Messages in all mailboxes', () => mailbox.messages)
  gauge('agentmesh_relay_mailbox_bytes', 'Payload bytes in all mailboxes', () => mailbox.bytes)
  if (tls !== undefined) {
    gauge(
      'agentmesh_relay_certificate_expiry_seconds',
      'Unix time when the TLS certificate ends',
      () => tls.expiresAt / 1000,
    )
  }
  gauge('process_resident_memory_bytes', 'Resident memory size', () => process.memoryUsage.rss())
  counter('process_cpu_seconds_total', 'Processor time, user and system', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })

  counter('agentmesh_relay_sockets_refused_total', 'Sockets over a limit', () => counters.socketsRefused)
  counter('agentmesh_relay_connects_total', 'CONNECTs accepted', () => counters.connects)
  counter('agentmesh_relay_connects_refused_total', 'CONNECTs refused', () => counters.connectsRefused)
  counter('agentmesh_relay_frames_in_total', 'Frames from agents', () => counters.framesIn)
  counter('agentmesh_relay_bytes_in_total', 'Frame bytes from agents', () => counters.bytesIn)
  counter('agentmesh_relay_bytes_out_total', 'Bytes to agents', () => counters.bytesOut)
  counter('agentmesh_relay_writes_total', 'Socket writes', () => counters.writes)
  counter('agentmesh_relay_sends_total', 'SENDs taken', () => counters.sends)
  counter('agentmesh_relay_delivered_total', 'Live deliveries acknowledged', () => counters.delivered)
  counter('agentmesh_relay_stored_total', 'Messages stored in a mailbox', () => counters.stored)
  counter('agentmesh_relay_received_total', 'RECEIVEs acknowledged', () => counters.received)
  counter('agentmesh_relay_expired_total', 'Messages past their time', () => counters.expired)
  counter(
    'agentmesh_relay_turn_credentials_total',
    'TURN credentials given out',
    () => counters.turnCredentials,
  )
  counter('agentmesh_relay_pauses_total', 'Connections not read from for a while', () => counters.pauses)
  byCode('agentmesh_relay_refused_total', 'SENDs refused, by code', () => counters.refusedByCode)
  byCode('agentmesh_relay_cut_total', 'Connections ended by the relay, by code', () => counters.cutByCode)
  if (cluster === undefined) return registry

  gauge('agentmesh_relay_cluster_linked', '1 while NATS is connected', () => (cluster.linked ? 1 : 0))
  gauge('agentmesh_relay_cluster_relays', 'Other relays heard of', () => cluster.relays)
  gauge('agentmesh_relay_cluster_waiting', 'Messages other relays answer for', () => cluster.waiting)
  counter('agentmesh_relay_forwarded_total', 'Messages given to another relay', () => counters.forwarded)
  counter(
    'agentmesh_relay_forwards_returned_total',
    'Of these, taken back because it did not answer',
    () => counters.forwardsReturned,
  )
  counter(
    'agentmesh_relay_cluster_refused_total',
    'Messages on NATS that were not in form',
    () => counters.clusterMessagesRefused,
  )
  return registry
}
