/**
 * `agentmesh succession <old amid>`: the owner of an agent whose key is lost or stolen goes on as this home's agent (DESIGN §4).
 * The 24 recovery words of the old one sign it; they are read from the terminal or from stdin and kept nowhere.
 */
import {
  AgentMeshError,
  HttpRegistryClient,
  parseAmid,
  readConfig,
  type SuccessionAnswer,
} from '@agentmesh/sdk'
import { systemRandom } from '@agentmesh/sdk/crypto/signing'
import { Home, openIdentity, recoveryKeyPair, signSuccession } from '@agentmesh/sdk/identity'
import { UsageError } from '../exit-codes.ts'
import { fields, show, type Context } from '../output.ts'
import { clientOf, homePath, readPassphrase, readStdin, unlessDown } from './shared.ts'

const MAX_WORDS_BYTES = 1024

export interface SuccessionOptions {
  passphrasePrompt?: boolean
}

/** @throws RECOVERY_WORDS_INVALID, NOT_REGISTERED, INVALID_SIGNATURE (the words of another agent), SUCCESSION_REFUSED */
export async function succession(context: Context, text: string, options: SuccessionOptions): Promise<void> {
  const old = parseAmid(text)
  const home = Home.open(homePath(context))
  const passphrase = await readPassphrase(options)
  const identity = openIdentity(home, passphrase === undefined ? {} : { passphrase })
  if (identity.amid === old)
    throw new UsageError('The successor is another agent: make it with agentmesh init')
  const recovery = recoveryKeyPair(await readWords())
  const statement = signSuccession(recovery, old, identity.amid, Date.now())
  const client = new HttpRegistryClient(readConfig(home).registry, identity, {
    now: Date.now,
    random: systemRandom,
  })
  let taken: SuccessionAnswer
  try {
    taken = await client.succession(statement)
  } catch (error) {
    if (error instanceof AgentMeshError && error.code === 'INVALID_SIGNATURE') {
      throw new AgentMeshError(error.code, `These are not the recovery words that ${old} was made with`, {
        cause: error,
      })
    }
    throw error
  } finally {
    client.close()
  }
  // A daemon that runs has the certificate at once.
  await unlessDown(clientOf(context).refreshTrust()).catch(() => {})
  show(context, { ...taken, statement }, ({ old_amid, new_amid, revoked, certified }) =>
    [
      fields([
        ['old', old_amid],
        ['new', new_amid],
        ['certificates revoked', String(revoked)],
        ['what was verified', certified === undefined ? 'nothing' : 'has moved to the new agent'],
      ]),
      '',
      'The registry shows the statement to whoever asks. Peers who knew the old agent are told, and decide by hand.',
    ].join('\n'),
  )
}

async function readWords(): Promise<string> {
  if (!process.stdin.isTTY) return readStdin(MAX_WORDS_BYTES)
  const { isCancel, password } = await import('@clack/prompts')
  const answer = await password({ message: 'The 24 recovery words of the old agent', output: process.stderr })
  if (isCancel(answer)) throw new UsageError('No words were given')
  return answer
}
