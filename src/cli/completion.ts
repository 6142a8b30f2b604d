import type { Command, Option } from 'commander'
import { walk } from './meant'
import { oneOfArgument, subcommand } from './options'

/* What a shell needs to complete our commands, made from the same definitions as --help. */

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

/** Adds the subcommand that prints a program's completion. */
export function withCompletion(root: Command): Command {
  subcommand(root, 'completion', 'print a shell completion script', 'completion bash')
    .addArgument(oneOfArgument('<shell>', SHELLS))
    .action((shell: Shell) => {
      process.stdout.write(completionScript(root, shell))
    })
  return root
}

/** Only what a name may be: it will stand on a command line, unquoted. */
const NAMES = '[A-Za-z0-9][A-Za-z0-9._-]\\{0,31\\}'
const idsIn = (folder: string) =>
  `ls ${folder} 2>/dev/null | sed -n 's/^\\(${NAMES}\\)\\.key$/\\1/p; s/^\\(${NAMES}\\)\\.key\\.age$/\\1/p'`
/** Finds words at the time of completing, by what a placeholder in --help is called: shell code that prints one a line. */
const LIVE: Readonly<Record<string, string>> = {
  profile: `knockclient profile list 2>/dev/null | sed -n '2,$s/^\\(${NAMES}\\) .*/\\1/p'`,
  key: idsIn(`"\${XDG_CONFIG_HOME:-$HOME/.config}"/knockturn/keys`),
  id: idsIn('/etc/knockturn/keys'),
  lease: `knockturn lease list 2>/dev/null | sed -n '2,$s/^\\([0-9a-f.]*\\) .*/\\1/p'`,
}
/** What `connect` and `exec` take for a host. */
const AIMS = `${LIVE.profile}; ${LIVE.key}`
/** Placeholders that stand for paths, alone or beside what {@link LIVE} finds. */
const PATHS = ['file', 'dir', 'key']

/** What may stand in one place. */
interface Place {
  /** The names of the subcommands so far, each with a space in front. */
  readonly path: string
  /** The option in front, or empty: any word. */
  readonly after: string
  readonly words: readonly string[]
  readonly live: string | undefined
  readonly paths: boolean
}

/** A completion script. The words of a command are looked for with the value of its options left out. */
function completionScript(root: Command, shell: Shell): string {
  const places = placesOf(root, '')
  const name = root.name()
  const find = `_${name}_words`
  // Options that take a word of their own: what follows them is no subcommand.
  const taking = [...new Set(walk(root).flatMap(({ options }) => options.filter((o) => o.required).flatMap(flagsOf)))]
  const steps = places.filter(({ after, path }) => after === '' && path !== '').map(({ path }) => `"${path}"`)
  const cases = places.map(
    ({ path, after, words, live, paths }) =>
      `    "${path}:${after}") ${[words.length > 0 ? `printf '%s\\n' ${words.join(' ')}` : '', live ?? '', paths ? 'echo /' : ''].filter(Boolean).join('; ') || ':'} ;;`,
  )
  const body = `# Prints the words that may come next, one a line; "/" stands for any path.
${find}() {
  local at='' before='' word
  for word in "$@"; do
    case "$before" in
      ${taking.join('|')}) before=''; continue ;;
    esac
    before=$word
    case "$at $word" in
      ${steps.length > 0 ? steps.join('|') : '""'}) at="$at $word" ;;
    esac
  done
  case "$at:$before" in
${cases.filter((_, n) => places[n].after !== '').join('\n')}
    *) case "$at:" in
${cases.filter((_, n) => places[n].after === '').join('\n')}
    esac ;;
  esac
}
`
  const head = `# ${shell} completion for ${name}, made by "${name} completion ${shell}"\n`
  return ENDS[shell](name, find, head, body)
}

/** What a shell's own part is made of: the program, the function that finds words, a line about the script, and what defines the function. */
type End = (name: string, find: string, head: string, body: string) => string
const ENDS: Readonly<Record<Shell, End>> = { bash: bashScript, zsh: zshScript, fish: fishScript }

function bashScript(...[name, find, head, body]: Parameters<End>): string {
  return `${head}${body}_${name}() {
  local cur=$\{COMP_WORDS[COMP_CWORD]} found word
  COMPREPLY=()
  found=$(${find} "$\{COMP_WORDS[@]:1:COMP_CWORD-1}")
  case $'\\n'"$found"$'\\n' in
    *$'\\n/\\n'*) compopt -o filenames 2>/dev/null; found+=$'\\n'$(compgen -f -- "$cur") ;;
  esac
  while IFS= read -r word; do
    [[ $word != / && $word == "$cur"* && -n $word ]] && COMPREPLY+=("$word")
  done <<< "$found"
}
complete -F _${name} ${name}
`
}

/** As a file in zsh's fpath, it is read when it is first needed, and has to complete at once; elsewhere it only defines. */
function zshScript(...[name, find, head, body]: Parameters<End>): string {
  return `#compdef ${name}
${head}${body}_${name}() {
  local -a found
  found=("\${(@f)$(${find} "\${(@)words[2,CURRENT-1]}")}")
  (( \${found[(I)/]} )) && _files
  compadd -- \${found:#/}
}
if [[ $funcstack[1] == _${name} ]]; then
  _${name} "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _${name} ${name}
fi
`
}

/** fish has a language of its own: a sh finds the words. */
function fishScript(...[name, find, head, body]: Parameters<End>): string {
  const inSh = `${body}${find} "$@"`.replace(/['\\]/g, '\\$&')
  return `${head}function _${name}
  set -l before (commandline -opc)
  set -l found (sh -c '${inSh}' ${name} $before[2..-1])
  contains -- / $found; and __fish_complete_path (commandline -ct)
  set -q found[1]; and string match -v -- / $found
end
complete -c ${name} -f -a '(_${name})'
`
}

function placesOf(command: Command, path: string): Place[] {
  const { options, commands, registeredArguments } = command
  const shown = options.filter(({ hidden }) => !hidden)
  const values = shown
    .filter(({ required, optional }) => required || optional)
    .flatMap((option) => {
      const place = filledBy(option.flags, option.argChoices)
      // What need not have a value may as well be followed by anything else.
      if (option.optional) return []
      return flagsOf(option).map((after) => ({ path, after, ...place }))
    })
  const [argument] = registeredArguments
  const filled = argument ? filledBy(`<${argument.name()}>`, argument.argChoices) : { words: [], live: undefined, paths: false }
  if (argument?.name() === 'host') filled.live = AIMS
  const words = [...commands.map((sub) => sub.name()), ...filled.words, ...shown.flatMap(flagsOf), '--help']
  const here = { path, after: '', words, live: filled.live, paths: filled.paths }
  return [...values, here, ...commands.flatMap((sub) => placesOf(sub, `${path} ${sub.name()}`))]
}

/** What fills a placeholder. */
function filledBy(
  flags: string,
  choices: readonly string[] | undefined,
): { words: readonly string[]; live: string | undefined; paths: boolean } {
  const placeholder = /[<[](\w+)/.exec(flags)?.[1] ?? ''
  return { words: choices ?? [], live: LIVE[placeholder], paths: PATHS.includes(placeholder) }
}

const flagsOf = ({ short, long }: Option): string[] => [short, long].filter((flag) => flag !== undefined)
