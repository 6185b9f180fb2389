/**
 * `agentmesh verify-me`: the owner vouches for this agent at its registry, and the agent is `verified` from then on.
 *
 * Through the browser: the PKCE verifier stays in this process, and the answer comes to a port of 127.0.0.1 that is open
 * for this one answer (RFC 8252). It reads the identity and writes nothing, so the daemon may run meanwhile.
 */
import { spawn } from 'node:child_process'
import {
  AgentMeshError,
  childEnvironment,
  HttpVerificationClient,
  isAgentMeshError,
  parseTimestamp,
  readConfig,
  toBase64Url,
  utf8Bytes,
  type VerificationProviders,
  type VerificationResult,
} from '@agentmesh/sdk'
import { sha256, systemRandom } from '@agentmesh/sdk/crypto/signing'
import { Home, openIdentity } from '@agentmesh/sdk/identity'
import { UsageError } from '../exit-codes.ts'
import { fields, note, show, type Context } from '../output.ts'
import { LoopbackReceiver } from './loopback-receiver.ts'
import { homePath, readPassphrase, readStdin } from './shared.ts'

export interface VerifyMeOptions {
  provider?: string
  displayName?: string
  device?: boolean
  email?: string
  /** `false` by --no-browser. */
  browser?: boolean
  passphrasePrompt?: boolean
}

type Offered = VerificationProviders['providers'][number]

/** The registry asks the provider meanwhile, and that may take its time. */
const TIMEOUT_MILLISECONDS = 40_000
const MAX_CODE_BYTES = 4096
const CODE_TRIES = 5

export async function verifyMe(context: Context, options: VerifyMeOptions): Promise<void> {
  const home = Home.open(homePath(context))
  const { registry } = readConfig(home)
  const passphrase = await readPassphrase(options)
  const identity = openIdentity(home, passphrase === undefined ? {} : { passphrase })
  const client = new HttpVerificationClient(registry, identity, {
    now: Date.now,
    random: systemRandom,
    timeoutMilliseconds: TIMEOUT_MILLISECONDS,
  })
  try {
    const provider = await chooseProvider(client, options)
    const result = await vouch(client, provider, options)
    const { certificate_chain: chain, display_name: name } = result
    const facts = { amid: identity.amid, provider: provider.name, ...result }
    show(context, facts, () =>
      [
        'This agent is verified.',
        '',
        fields([
          ['AMID', identity.amid],
          ['shown as', name ?? '(no name)'],
          ['vouched at', provider.name],
          ['certificates', String(chain.length)],
        ]),
      ].join('\n'),
    )
  } finally {
    client.close()
  }
}

/** @throws UsageError when none fits, or several do and nobody said which */
async function chooseProvider(client: HttpVerificationClient, options: VerifyMeOptions): Promise<Offered> {
  const { providers } = await client.verificationProviders()
  if (providers.length === 0) {
    throw new AgentMeshError('TIER_UNAVAILABLE', 'This registry cannot verify people')
  }
  const named = options.provider
  const way = options.email !== undefined ? 'email' : options.device === true ? 'device' : undefined
  const fitting = providers
    .filter(({ name }) => named === undefined || name === named)
    .filter(({ ways }) => way === undefined || ways.includes(way))
  const [only] = fitting
  if (only !== undefined && fitting.length === 1) return only
  const list = providers.map(({ name, ways }) => `${name} (${ways.join(', ')})`).join(', ')
  throw new UsageError(
    only === undefined ? `No provider fits. There are: ${list}` : `Choose one with --provider: ${list}`,
  )
}

function vouch(
  client: HttpVerificationClient,
  provider: Offered,
  options: VerifyMeOptions,
): Promise<VerificationResult> {
  if (provider.ways.includes('email')) return byEmail(client, provider.name, options)
  if (options.device === true) return byDevice(client, provider.name, options)
  return byBrowser(client, provider.name, options)
}

function displayName({ displayName: name }: VerifyMeOptions): { display_name?: string } {
  return name === undefined ? {} : { display_name: name }
}

async function byBrowser(
  client: HttpVerificationClient,
  provider: string,
  options: VerifyMeOptions,
): Promise<VerificationResult> {
  const verifier = toBase64Url(systemRandom(32))
  const receiver = await LoopbackReceiver.open()
  try {
    const started = await client.startVerification({
      provider,
      redirect_uri: receiver.redirectUri,
      code_challenge: toBase64Url(sha256(utf8Bytes(verifier))),
    })
    note(`Open this address, and agree there:\n\n  ${started.authorization_url}\n`)
    if (options.browser !== false) openBrowser(started.authorization_url)
    const returned = await receiver.answer(started.state, parseTimestamp(started.expires_at) - Date.now())
    return await client.finishVerification({
      verification_id: started.verification_id,
      code: returned.code,
      state: started.state,
      ...(returned.iss === undefined ? {} : { iss: returned.iss }),
      code_verifier: verifier,
      ...displayName(options),
    })
  } finally {
    receiver.close()
  }
}

async function byDevice(
  client: HttpVerificationClient,
  provider: string,
  options: VerifyMeOptions,
): Promise<VerificationResult> {
  const started = await client.startDeviceVerification(provider)
  note(
    [
      `On any device, open  ${started.verification_uri}`,
      `and type             ${started.user_code}`,
      ...(started.verification_uri_complete === undefined
        ? []
        : [`or open              ${started.verification_uri_complete}`]),
    ].join('\n'),
  )
  let { interval } = started
  const end = parseTimestamp(started.expires_at)
  while (Date.now() < end) {
    const wait = interval * 1000
    await new Promise<void>((resolve) => setTimeout(resolve, wait))
    const answer = await client.finishDeviceVerification({
      verification_id: started.verification_id,
      ...displayName(options),
    })
    if (!('status' in answer)) return answer
    interval = answer.interval
  }
  throw new AgentMeshError('VERIFICATION_UNKNOWN', 'Nobody agreed in time')
}

async function byEmail(
  client: HttpVerificationClient,
  provider: string,
  options: VerifyMeOptions,
): Promise<VerificationResult> {
  const address = options.email ?? (await ask('Your mail address'))
  const started = await client.startEmailVerification(provider, address)
  note('If mail can reach this address, it has a code now. It is good for ten minutes.')
  const asking = process.stdin.isTTY
  const finish = async (code: string): Promise<VerificationResult> => {
    if (!/^\d{8}$/.test(code)) throw new UsageError('The code has 8 digits')
    return client.finishEmailVerification({
      verification_id: started.verification_id,
      code,
      ...displayName(options),
    })
  }
  if (!asking) return finish((await readStdin(MAX_CODE_BYTES)).trim())
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await finish((await ask('The code')).trim())
    } catch (error) {
      const again = isAgentMeshError(error, 'VERIFICATION_REFUSED') || error instanceof UsageError
      if (!again || attempt === CODE_TRIES) throw error
      note(error.message)
    }
  }
}

/** @throws UsageError where nobody can be asked */
async function ask(message: string): Promise<string> {
  if (!process.stdin.isTTY) throw new UsageError('Without a terminal: --email ADDRESS, and the code on stdin')
  const { isCancel, text } = await import('@clack/prompts')
  const answer = await text({ message, output: process.stderr })
  if (isCancel(answer)) throw new UsageError('Cancelled; nothing was changed')
  return answer
}

/** The address stands on the terminal too, so a machine without a browser is no failure. */
function openBrowser(url: string): void {
  const [program, ...args] =
    process.platform === 'darwin'
      ? ['open', url]
      : process.platform === 'win32'
        ? ['rundll32', 'url.dll,FileProtocolHandler', url]
        : [process.env['BROWSER'] ?? 'xdg-open', url]
  if (program === undefined || program === '') return
  const child = spawn(program, args, {
    stdio: 'ignore',
    detached: true,
    env: childEnvironment(process.env),
  })
  child.on('error', () => undefined)
  child.unref()
}
