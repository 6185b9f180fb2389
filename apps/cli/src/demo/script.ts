/**
 * The demonstration, step by step. Every step does something with the same commands a reader can type, and proves it by
 * what other processes say; a step that proves nothing else throws.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  fromBase58,
  parseKey,
  utf8Bytes,
  type AgentStatus,
  type DecisionRecord,
  type ProgressEvent,
  type SearchAnswer,
} from '@agentmesh/sdk'
import { Home, readPublicIdentity } from '@agentmesh/sdk/identity'
import type { NewAgent } from '../commands/init.ts'
import { describeStage } from '../commands/progress.ts'
import { EXIT } from '../exit-codes.ts'
import { color, table } from '../output.ts'
import { expectedFlights, PROGRAM, travelDate, type Flight, type FlightSearch } from './flights.ts'
import { DemoFailure, words, type Processes, type Running } from './processes.ts'
import { find, haystacks, readRecording, spellings, type RecordedConnection } from './recording.ts'

export interface Step {
  readonly title: string
  /** Does the step; each line given to `say` is shown at once. @throws DemoFailure */
  run(say: (line: string) => void): Promise<void>
}

const TRAVEL_NAME = 'Harbour Travel Desk'
const TRAVELLER_NAME = 'Assistant of W. Quillfeather'
const MAX_PRICE = 800
const PAYMENT = { iban: 'DE89370400440532013000', amount: 250, note: 'deposit for the lighthouse' }
const WAIT = '30'

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new DemoFailure(`This does not hold: ${what}`)
}

const indent = (text: string): string => text.replaceAll(/^/gm, '  ')

export class DemoScript {
  readonly #processes: Processes
  readonly #folder: string
  readonly #travel: string
  readonly #traveller: string
  readonly #recording: string
  readonly #searches: readonly [FlightSearch, FlightSearch]
  readonly #answers: Flight[] = []
  #registryUrl = ''
  #relayUrl = ''
  #proxy: Running | undefined
  #travelDaemon: Running | undefined
  #travellerDaemon: Running | undefined
  #listener: Running | undefined
  #travelAmid = ''
  #travellerAmid = ''

  constructor(processes: Processes, folder: string, now: number) {
    this.#processes = processes
    this.#folder = folder
    this.#travel = join(folder, 'travel')
    this.#traveller = join(folder, 'traveller')
    this.#recording = join(folder, 'recording')
    const date = travelDate(now)
    const common = { date, passengers: 2, passenger_names: ['Wilhelmina Quillfeather', 'Ada Quillfeather'] }
    this.#searches = [
      {
        origin: 'TLV',
        destination: 'BER',
        ...common,
        preferences: { max_stops: 1, wish: 'a window towards the moonrise' },
      },
      {
        origin: 'OSL',
        destination: 'KEF',
        ...common,
        preferences: { max_stops: 0, wish: 'room for a cello case' },
      },
    ]
  }

  get steps(): readonly Step[] {
    return [
      { title: 'A registry and a relay start', run: (say) => this.#servers(say) },
      { title: 'Two agents come to life, each with its own home and keys', run: (say) => this.#agents(say) },
      { title: 'The traveller finds the travel agent by what it can do', run: (say) => this.#search(say) },
      { title: 'It knocks, is let in, and asks for flights', run: (say) => this.#ask(say) },
      { title: 'It knocks about money, and policy refuses', run: (say) => this.#refused(say) },
      { title: 'The travel agent is down; a message waits for it', run: (say) => this.#offline(say) },
      { title: 'What the relay, and whoever listens there, got to see', run: (say) => this.#recorded(say) },
      { title: 'Both owners check their logs', run: (say) => this.#audited(say) },
    ]
  }

  async #servers(say: (line: string) => void): Promise<void> {
    const processes = this.#processes
    const recorder = new URL('recording-proxy.js', import.meta.url)
    this.#proxy = processes.need(processes.program('recorder', recorder, [this.#recording]))
    const registry = processes.need(
      processes.start(
        'registry',
        words`registry --port 0 --data ${join(this.#folder, 'registry.db')} --json`,
      ),
    )
    const { port } = await this.#proxy.line((line) => 'port' in line, 'port')
    const address = `127.0.0.1:${String(port)}`
    const relay = processes.need(
      processes.start(
        'relay',
        words`relay --port 0 --data ${join(this.#folder, 'relay.db')} --name ${address} --json`,
      ),
    )
    const [relaySays, registrySays] = await Promise.all([
      relay.line((line) => 'url' in line, 'url'),
      registry.line((line) => 'url' in line, 'url'),
    ])
    this.#proxy.tell({ port: relaySays['port'] })
    this.#registryUrl = String(registrySays['url'])
    this.#relayUrl = `ws://${address}`
    say(`registry   process ${registry.pid} at ${this.#registryUrl}`)
    say(`relay      process ${relay.pid} at ${String(relaySays['url'])}`)
    say(
      `recorder   process ${this.#proxy.pid} before the relay, at ${this.#relayUrl}: it writes down every byte`,
    )
  }

  async #agents(say: (line: string) => void): Promise<void> {
    const processes = this.#processes
    const registry = this.#registryUrl
    const relay = this.#relayUrl
    const [travel, traveller] = await Promise.all([
      processes.value<NewAgent>(
        words`init --home ${this.#travel} --registry ${registry} --relay ${relay}
          --name ${TRAVEL_NAME} --capability travel/flights`,
      ),
      processes.value<NewAgent>(
        words`init --home ${this.#traveller} --registry ${registry} --relay ${relay}
          --name ${TRAVELLER_NAME} --relay-encoding json`,
      ),
    ])
    await processes.value(words`policy set accepted_intents travel --home ${this.#travel}`)
    this.#travelAmid = travel.amid
    this.#travellerAmid = traveller.amid
    check(this.#travelAmid !== this.#travellerAmid, 'two homes are two identities')
    this.#travellerDaemon = this.#daemon('traveller', this.#traveller)
    await Promise.all([
      this.#startTravel(),
      this.#travellerDaemon.line((line) => line['event'] === 'online', 'online'),
    ])
    say(`travel     ${this.#travelAmid}  process ${this.#travelDaemon?.pid ?? 0}, speaks binary frames`)
    say(`           answers with examples/travel-agent/flights.mjs; its policy accepts "travel" only`)
    say(`traveller  ${this.#travellerAmid}  process ${this.#travellerDaemon.pid}, speaks JSON frames`)
  }

  #daemon(name: string, home: string): Running {
    return this.#processes.start(name, words`up --foreground --json --home ${home}`)
  }

  /** The travel agent's daemon and the program that answers for it. */
  async #startTravel(): Promise<void> {
    this.#travelDaemon = this.#daemon('travel', this.#travel)
    await this.#travelDaemon.line((line) => line['event'] === 'ready', 'ready')
    const command = `"${process.execPath}" "${fileURLToPath(PROGRAM)}"`
    this.#listener = this.#processes.start(
      'listen',
      words`listen --exec ${command} --json --home ${this.#travel}`,
    )
    await Promise.all([
      this.#travelDaemon.line((line) => line['event'] === 'online', 'online'),
      this.#listener.line((line) => line['event'] === 'ready', 'ready'),
    ])
  }

  async #search(say: (line: string) => void): Promise<void> {
    say('$ agentmesh search travel/flights')
    const { agents } = await this.#processes.value<SearchAnswer>(
      words`search travel/flights --home ${this.#traveller}`,
    )
    const found = agents.map(({ amid, display_name }) => `${amid}  ${display_name ?? ''}`)
    for (const line of found) say(line)
    check(agents.length === 1 && agents[0]?.amid === this.#travelAmid, 'the search finds the travel agent')
    say('proof: the AMID is the hash of the key that signed the record, checked by the traveller itself')
  }

  async #ask(say: (line: string) => void): Promise<void> {
    const [search] = this.#searches
    say(
      `$ agentmesh send ${this.#travelAmid} --intent travel/flights --type conversation --params '...' --wait ${WAIT}`,
    )
    const sending = this.#send(search)
    const stages = await this.#follow(sending, say)
    const flights = this.#flightsIn(stages, search)
    say(flightTable(flights))
    for (const stage of [
      'looked_up',
      'knocked',
      'accepted',
      'delivered',
      'read',
      'status',
      'answered',
    ] as const) {
      check(
        stages.some((event) => event.stage === stage),
        `the request came to the stage "${stage}"`,
      )
    }
    const { decisions } = await this.#why()
    check(decisions.length === 1 && decisions[0]?.accepted === true, 'the travel agent let in one KNOCK')
    say(`proof: the same ${flights.length} flights as our own look into timetable.csv, for ${search.date}`)
  }

  async #refused(say: (line: string) => void): Promise<void> {
    say(`$ agentmesh send ${this.#travelAmid} --intent finance/payments --params '...' --wait ${WAIT}`)
    const sending = this.#processes.start(
      'send',
      words`send ${this.#travelAmid} --intent finance/payments --params ${JSON.stringify(PAYMENT)}
        --wait ${WAIT} --json --home ${this.#traveller}`,
    )
    const stages = await this.#follow(sending, say, EXIT.rejected)
    const rejected = stages.find(({ stage }) => stage === 'rejected')
    check(rejected?.reject?.reason === 'intent_not_accepted', 'the REJECT says the intent is not accepted')
    const { decisions } = await this.#why()
    const [latest] = decisions
    check(latest?.accepted === false && latest.intent?.category === 'finance', 'the owner sees the refusal')
    const failed = latest.trace.filter(({ passed }) => !passed).map(({ rule }) => rule)
    check(failed.join() === 'intent', 'the rule that failed is the intent')
    const answered = this.#listener?.lines.filter((line) => line['event'] === 'request').length ?? 0
    check(answered === 1, 'the program saw the flight search and nothing else')
    say(
      `proof: exit code ${EXIT.rejected}; the travel agent's owner reads why: rule "${failed.join()}", after ${latest.trace.length - 1} that passed`,
    )
    say('       the answering program was never asked')
  }

  async #offline(say: (line: string) => void): Promise<void> {
    const [, search] = this.#searches
    await this.#listener?.stop()
    await this.#processes.value(words`down --home ${this.#travel}`)
    await this.#travelDaemon?.ended
    const status = await this.#processes.run(words`status --home ${this.#travel}`)
    check(status.code === EXIT.notRunning, 'the travel agent is down')
    say('the travel agent has gone home: `agentmesh down`')
    const sending = this.#send(search)
    const following = this.#follow(sending, say)
    const stored = await sending.line((line) => line['stage'] === 'stored', 'stored')
    check(!sending.lines.some((line) => line['stage'] === 'delivered'), 'nobody was there to receive it')
    say('the travel agent comes back: `agentmesh up`')
    await this.#startTravel()
    const stages = await following
    const flights = this.#flightsIn(stages, search)
    say(flightTable(flights))
    const { started_at } = await this.#processes.value<AgentStatus>(words`status --home ${this.#travel}`)
    const answered = stages.at(-1)?.at ?? ''
    check(String(stored['at']) < started_at && started_at < answered, 'stored, then started, then answered')
    say(
      `proof: stored ${String(stored['at']).slice(11)}, agent started ${started_at.slice(11)}, answered ${answered.slice(11)}`,
    )
  }

  async #recorded(say: (line: string) => void): Promise<void> {
    await Promise.all([this.#listener?.stop(), this.#travelDaemon?.stop(), this.#travellerDaemon?.stop()])
    await this.#proxy?.stop()
    const recording = readRecording(readFileSync(this.#recording))
    const hay = haystacks(recording)
    const bytes = recording.reduce((sum, { raw }) => sum + raw[0].length + raw[1].length, 0)
    say(`recorded: ${bytes} bytes on ${recording.length} connections. All a message shows there:`)
    say(this.#seenTable(recording))

    // The search must be able to find: what the relay is meant to see, in each encoding the frames use.
    const key = parseKey('ed25519', readPublicIdentity(Home.open(this.#traveller)).signing_public_key)
    const controls = [
      [
        'AMID of the traveller in a JSON CONNECT, as text',
        find(utf8Bytes(this.#travellerAmid), hay),
        'plain',
      ],
      ['key of the traveller in a JSON CONNECT, as base64', find(key, hay), 'base64+0'],
      [
        'AMID of the travel agent in a binary CONNECT, as bytes',
        find(fromBase58(this.#travelAmid), hay),
        'plain',
      ],
    ] as const
    for (const [what, found, form] of controls) {
      check((found as readonly string[]).includes(form), `the search finds the ${what}`)
      say(`${color.green('found')}      ${what}`)
    }
    const secrets = this.#secrets()
    for (const secret of secrets) {
      const found = find(utf8Bytes(secret), hay)
      check(found.length === 0, `"${secret}" is not in the recording (it is, as ${found.join()})`)
    }
    const forms = spellings(utf8Bytes('x')).size
    say(
      `${color.green('not found')}  ${secrets.length} secrets in ${forms} spellings each: ${secrets.slice(0, 4).join(', ')}, ...`,
    )
    say('proof: the same search over the same bytes finds the addresses, and no word of what was said')
  }

  /** Parameter values, intents, names and answers: everything that was said. */
  #secrets(): string[] {
    const values = [...this.#searches, PAYMENT].flatMap((value) => leaves(value))
    const spoken = ['travel', 'flights', 'finance', 'payments', TRAVEL_NAME, TRAVELLER_NAME]
    const answers = this.#answers.flatMap(({ flight, departure }) => [flight, departure])
    return [...new Set([...spoken, ...values, ...answers])]
  }

  #seenTable(recording: readonly RecordedConnection[]): string {
    const who = (amid: string) => (amid === this.#travelAmid ? 'travel' : 'traveller')
    const rows = recording.flatMap(({ frames }) => {
      const connect = frames.find((frame) => frame.frame === 'CONNECT')
      const from = connect === undefined ? '' : who(connect.amid)
      return frames.flatMap((frame) =>
        frame.frame === 'SEND'
          ? [{ from, to: who(frame.to), type: frame.type, size: frame.payload.length }]
          : [],
      )
    })
    check(rows.length > 0, 'messages were recorded')
    const kinds = new Map<string, number[]>()
    for (const { from, to, type, size } of rows) {
      const kind = `${from} -> ${to}|${type}`
      kinds.set(kind, [...(kinds.get(kind) ?? []), size])
    }
    const lines = [...kinds].map(([kind, sizes]) => {
      const [addresses = '', type = ''] = kind.split('|')
      return [addresses, type, String(sizes.length), sizes.join(' ')]
    })
    return table(['from and to', 'type', 'number', 'sizes in bytes'], lines)
  }

  async #audited(say: (line: string) => void): Promise<void> {
    for (const [name, home] of [
      ['travel', this.#travel],
      ['traveller', this.#traveller],
    ] as const) {
      const report = await this.#processes.value<{ ok: boolean; lines: number }>(
        words`audit verify --home ${home}`,
      )
      check(report.ok && report.lines > 0, `the log of ${name} is whole`)
      say(`${name.padEnd(10)} ${report.lines} lines, each chained to the one before, the last one signed`)
    }
  }

  // --- the traveller's request and what becomes of it ----------------------------------------------------------------

  #send(search: FlightSearch): Running {
    return this.#processes.start(
      'send',
      words`send ${this.#travelAmid} --intent travel/flights --action search --type conversation
        --params ${JSON.stringify(search)} --budget ${`${MAX_PRICE}:USD`} --wait ${WAIT}
        --json --home ${this.#traveller}`,
    )
  }

  /** Shows each stage as it comes; resolves with all when the command ended as it should. */
  async #follow(
    sending: Running,
    say: (line: string) => void,
    exitCode: number = EXIT.ok,
  ): Promise<ProgressEvent[]> {
    let shown = 0
    const show = (): boolean => {
      for (const line of sending.lines.slice(shown))
        say(`- ${describeStage(line as unknown as ProgressEvent)}`)
      shown = sending.lines.length
      return false
    }
    // Every new line is looked at and none passes, so this ends with the process.
    await sending.line(show, 'the end').catch(() => {})
    const { code, stderr } = await sending.ended
    show()
    check(code === exitCode, `send ends with ${exitCode}, not ${code}. ${stderr.trim()}`)
    return sending.lines as unknown as ProgressEvent[]
  }

  #flightsIn(stages: readonly ProgressEvent[], search: FlightSearch): Flight[] {
    const answer = stages.at(-1)?.answer
    check(answer?.type === 'response' && answer.from === this.#travelAmid, 'the travel agent answers')
    const flights = answer.payload.results as Flight[]
    const expected = expectedFlights(search, MAX_PRICE)
    check(expected.length > 0, 'the timetable has a flight on that day')
    const given = flights.map(({ flight, price }) => ({ flight, price }))
    check(JSON.stringify(given) === JSON.stringify(expected), 'the answer is what the timetable says')
    this.#answers.push(...flights)
    return flights
  }

  #why(): Promise<{ decisions: DecisionRecord[] }> {
    return this.#processes.value(words`why ${this.#travellerAmid} --home ${this.#travel}`)
  }
}

/** Long enough not to turn up by chance in random bytes. */
const MIN_SECRET = 5

function leaves(value: unknown): string[] {
  if (typeof value === 'string') return value.length >= MIN_SECRET ? [value] : []
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => {
    // A short value counts with its name: `"origin":"TLV"`.
    if (typeof inner === 'string' && inner.length < MIN_SECRET && !Array.isArray(value)) {
      return [`${JSON.stringify(name)}:${JSON.stringify(inner)}`]
    }
    return leaves(inner)
  })
}

function flightTable(flights: readonly Flight[]): string {
  const rows = flights.map((flight) => [
    flight.flight,
    flight.departure.replace('T', ' '),
    flight.arrival.replace('T', ' '),
    String(flight.stops),
    `${flight.price} ${flight.currency}`,
  ])
  return indent(table(['flight', 'departs', 'arrives', 'stops', 'for two'], rows))
}
