/** Commands that have to do with other agents: find, ask, answer, look at what was said. */
import { Command } from 'commander'
import type { ListenOptions } from '../commands/listen.ts'
import type { NegotiateOptions } from '../commands/negotiate.ts'
import type { SearchOptions } from '../commands/search.ts'
import type { ExportOptions } from '../commands/sessions.ts'
import type { SendCommandOptions } from '../commands/send.ts'
import { collect, contextOf, count, rating, seconds, withExamples } from './kit.ts'

export function peerCommands(): Command[] {
  const search = new Command('search')
    .description('find agents by what they can do')
    .argument('<capability>', 'category or category/subcategory')
    .option('--action <name>', 'only agents that list this action')
    .option('--tier-min <tier>', 'anonymous, verified or organization')
    .option('--online', 'only agents that are connected')
    .option('--limit <n>', 'at most n agents', count)
    .option('--cursor <text>', 'the next page, from the answer before')
    .action(async (capability: string, options: SearchOptions, command: Command) =>
      (await import('../commands/search.ts')).search(contextOf(command), capability, options),
    )
  withExamples(search, ['agentmesh search travel/flights', 'agentmesh search travel --online --json'])

  const send = new Command('send')
    .description('send a request to an agent')
    .argument('<amid>', 'who is asked')
    .requiredOption('--intent <intent>', 'what about, category[/subcategory]')
    .option('--action <name>', 'what is to be done')
    .option('--params <json>', 'parameters as a JSON object, or - to read them from stdin')
    .option('--type <type>', 'session type: request_response, conversation or stream')
    .option('--budget <max:currency>', 'what it may cost, such as 500:EUR')
    .option('--schema <name>', 'schema the results should follow')
    .option('--id <uuid>', 'name of the request; the same id again is the same request')
    .option('--expires <seconds>', 'give up when not taken in this time (default 72 hours)', seconds)
    .option('--attach <file>', 'a file to go along; up to 16', collect)
    .option('--wait <seconds>', 'show progress and wait for the answer', seconds)
    .option('--save-to <folder>', 'with --wait: write the files of the answer there')
    .action(async (amid: string, options: SendCommandOptions, command: Command) =>
      (await import('../commands/send.ts')).send(contextOf(command), amid, options),
    )
  withExamples(send, [
    `agentmesh send <amid> --intent travel/flights --params '{"origin":"TLV","destination":"BER"}' --wait 60`,
    'echo \'{"text":"..."}\' | agentmesh send <amid> --intent communication/translation --params - --wait 60 --json',
    'agentmesh send <amid> --intent productivity --attach report.pdf --wait 300 --save-to answers',
  ])

  const negotiate = new Command('negotiate')
    .description('ask an agent what it can do before a conversation')
    .argument('<amid>', 'who is asked')
    .requiredOption('--intent <intent>', 'what about, category[/subcategory]')
    .requiredOption('--need <names>', 'capabilities, with commas')
    .option('--schema <names>', 'schemas, best first, with commas')
    .option('--language <tags>', 'languages, best first, with commas')
    .option('--payment <names>', 'payment methods, best first, with commas')
    .option('--wait <seconds>', 'show progress and wait for the answer', seconds)
    .action(async (amid: string, options: NegotiateOptions, command: Command) =>
      (await import('../commands/negotiate.ts')).negotiate(contextOf(command), amid, options),
    )
  withExamples(negotiate, [
    'agentmesh negotiate <amid> --intent travel/flights --need travel/flights,seat_selection --wait 30',
    'agentmesh negotiate <amid> --intent travel --need travel/hotels --schema agentmesh/travel/v1 --language de,en --wait 30',
  ])

  const listen = new Command('listen')
    .description('answer requests: as JSON lines, or with a program')
    .option('--exec <command>', 'run for each request: request JSON on stdin, answer JSON on stdout')
    .option('--env <name>', 'a variable that the program gets too, see below; may be given again', collect)
    .option('--timeout <seconds>', 'how long the program may take (default 60)', seconds)
    .action(async (options: ListenOptions, command: Command) =>
      (await import('../commands/listen.ts')).listen(contextOf(command), options),
    )
  withExamples(listen, [
    "agentmesh listen --exec 'python3 answer.py'",
    "agentmesh listen --exec 'python3 answer.py' --env FLIGHTS_API_KEY",
    'agentmesh listen',
  ])
  listen.addHelpText('after', LISTEN_HELP)

  const sessions = new Command('sessions')
    .description('sessions, newest first')
    .action(async (_options: object, command: Command) =>
      (await import('../commands/sessions.ts')).sessions(contextOf(command)),
    )
  withExamples(sessions, ['agentmesh sessions', 'agentmesh sessions --json'])

  const session = new Command('session').description('one session')
  withExamples(session, [
    'agentmesh session show <id>',
    'agentmesh session kill <id>',
    'agentmesh session export <id>',
    'agentmesh session rate <id> 0.9 --tag accurate --tag fast',
  ])
  session
    .command('show')
    .description('its messages and their receipts')
    .argument('<id>')
    .action(async (id: string, _options: object, command: Command) =>
      (await import('../commands/sessions.ts')).sessionShow(contextOf(command), id),
    )
  session
    .command('close')
    .description('end it in order, for both sides')
    .argument('<id>')
    .action(async (id: string, _options: object, command: Command) =>
      (await import('../commands/sessions.ts')).sessionClose(contextOf(command), id),
    )
  session
    .command('rate')
    .description('tell the registry how a session that both sides closed went')
    .argument('<id>')
    .argument('<rating>', 'from 0, bad, to 1, good', rating)
    .option('--tag <word>', 'such as accurate, fast, unreliable, spam; several are fine', collect)
    .action(async (id: string, given: number, options: { tag?: readonly string[] }, command: Command) =>
      (await import('../commands/sessions.ts')).sessionRate(contextOf(command), id, given, options.tag ?? []),
    )
  session
    .command('kill')
    .description('end it at once')
    .argument('<id>')
    .action(async (id: string, _options: object, command: Command) =>
      (await import('../commands/sessions.ts')).sessionKill(contextOf(command), id),
    )
  session
    .command('export')
    .description('write its messages and receipts, in clear, to a file that only the owner can read')
    .argument('<id>')
    .option('--output <file>', 'where to; default sessions/<peer>/<id>.json in the home')
    .option('--keys', "with the session's keys, see below")
    .action(async (id: string, options: ExportOptions, command: Command) =>
      (await import('../commands/sessions.ts')).sessionExport(contextOf(command), id, options),
    )
    .addHelpText('after', EXPORT_HELP)

  const why = new Command('why')
    .description('why a KNOCK was let in or refused, or what became of a message')
    .argument('<id>', 'an AMID, a decision, or a message of ours')
    .action(async (id: string, _options: object, command: Command) =>
      (await import('../commands/why.ts')).why(contextOf(command), id),
    )
  withExamples(why, ['agentmesh why <amid>', 'agentmesh why <message id>'])

  return [search, send, negotiate, listen, sessions, session, why]
}

const EXPORT_HELP = `
The file is in clear, and the audit log says that it was written.

--keys adds session_state: the keys the session holds at this moment, as base64. Whoever reads the file and sees the packets
can decrypt what both sides say next, until each has answered the other once more. They cannot decrypt what was said before,
whose keys are gone, nor speak in your name, since messages are signed. Keep such a file as you keep a password.
`

const LISTEN_HELP = `
Each request is one JSON object: id, from, session_id, intent, payload, sent_before_start, provenance; with files, also attachments: a list of
handle, name, media_type, size, sha256, and with --exec path: a copy in clear that is deleted after the answer.

With --exec the command gets it on stdin and prints one of
  {"results": ...}   {"error": {"code": "...", "message": "..."}}   any other JSON value, taken as the results
beside results it may name files to send along: "attachments": ["report.pdf", {"path": "...", "name": "...", "media_type": "..."}]
and before it, each on a line of its own, as many as it likes of
  {"status": "processing", "progress": 0.5, "message": "..."}
Another exit code than 0, no JSON, too much output or too long a time is answered with HANDLER_FAILED.

Of the environment it gets PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_*, TZ, TMPDIR, TERM, NO_COLOR, what --env names, and
AGENTMESH_REQUEST_ID, AGENTMESH_SESSION_ID and AGENTMESH_FROM, which are about the request. No other AGENTMESH_* goes on.

When the daemon ends, listen waits for it to come back. A request that was open then is handed over again, with the same id;
a program that is at work on it is not started a second time.

Without --exec requests are printed one a line, and answers read from stdin one a line:
  {"handle": "...", "results": ...}   {"handle": "...", "error": {...}}   {"handle": "...", "status": "processing", ...}
The handle is the one that was printed with the request.
`
