/** `agentmesh completion`: a static script for a shell, made from the command tree. */
import { REGISTRY_DEFINITION } from '@agentmesh/registry'
import { RELAY_DEFINITION } from '@agentmesh/relay'
import { optionNames } from '@agentmesh/sdk/hosting'
import type { Command } from 'commander'
import { print } from '../output.ts'

interface Node {
  /** Words after `agentmesh`, such as `policy set`; empty for the top. */
  readonly path: string
  readonly names: readonly string[]
  readonly options: readonly string[]
}

export function completion(program: Command, shell: 'bash' | 'zsh' | 'fish'): void {
  const nodes = nodesOf(program, '')
  print(shell === 'fish' ? fish(nodes) : bash(nodes, shell))
}

/** Options that the command tree does not know, by path. */
const SERVER_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  relay: optionNames(RELAY_DEFINITION),
  registry: optionNames(REGISTRY_DEFINITION),
}

function nodesOf(command: Command, path: string): Node[] {
  const globals = path === '' ? ['--version'] : ['--home', '--json']
  const own = [
    ...command.options.flatMap(({ long }) => long ?? []),
    ...(SERVER_OPTIONS[path] ?? []).map((name) => `--${name}`),
  ]
  const node = {
    path,
    names: command.commands.map((child) => child.name()),
    options: [...new Set([...own, ...globals, '--help'])],
  }
  return [node, ...command.commands.flatMap((child) => nodesOf(child, `${path} ${child.name()}`.trim()))]
}

/** zsh reads the same script through its bash compatibility. */
function bash(nodes: readonly Node[], shell: 'bash' | 'zsh'): string {
  const cases = nodes.map(
    ({ path, names, options }) => `    '${path}') words='${[...names, ...options].join(' ')}' ;;`,
  )
  return [
    ...(shell === 'zsh' ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_agentmesh() {',
    "  local word path='' words=''",
    '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
    '    case "$word" in -*) ;; *) _agentmesh_known "$path $word" && path="${path:+$path }$word" ;; esac',
    '  done',
    '  case "$path" in',
    ...cases,
    '  esac',
    '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    '_agentmesh_known() {',
    '  case "${1# }" in',
    `    ${nodes
      .filter(({ path }) => path !== '')
      .map(({ path }) => `'${path}'`)
      .join('|')}) return 0 ;;`,
    '  esac',
    '  return 1',
    '}',
    'complete -o default -F _agentmesh agentmesh',
  ].join('\n')
}

function fish(nodes: readonly Node[]): string {
  const lines = nodes.flatMap(({ path, names, options }) => {
    const [first, second] = path.split(' ')
    const condition =
      path === ''
        ? '__fish_use_subcommand'
        : [first, second]
            .filter((word) => word !== undefined)
            .map((word) => `__fish_seen_subcommand_from ${word}`)
            .join('; and ')
    return [
      ...(names.length === 0 ? [] : [`complete -c agentmesh -f -n '${condition}' -a '${names.join(' ')}'`]),
      ...options.map((option) => `complete -c agentmesh -n '${condition}' -l ${option.slice(2)}`),
    ]
  })
  return lines.join('\n')
}
