import { matchOf } from './matches'
import { ALWAYS, both, NONE, type Split } from './share'
import type { Match, Option, Stranger, Surroundings, Tells } from './stranger'

/** A rule, made ready to be compared with many packets. */
export interface Rule {
  readonly line: string
  /** Null where the rule only counts. */
  readonly target: string | null
  /** The words behind the target. */
  readonly options: readonly string[]
  readonly isGoto: boolean
  readonly fixed: Split
  readonly matches: readonly Exclude<Match, Split>[]
  /** What its conditions tell apart among the strangers. */
  readonly tells: Tells
}

/** One word of a rule as `iptables -S` prints it. What was quoted is never an option. */
interface Word {
  readonly text: string
  readonly isQuoted: boolean
}

/**
 * Reads a rule as `iptables -S` prints it.
 * @returns null where it matches no stranger at all
 */
export function readStrangersRule(line: string, around: Surroundings): Rule | null {
  if (FOR_ONE.test(line)) return null
  const words = wordsOf(line).slice(2)
  const tells: Tells = { sources: [], destinations: [], interfaces: [] }
  const found: Match[] = []
  let target: string | null = null
  let isGoto = false
  let options: string[] = []
  for (let at = 0; at < words.length; ) {
    const word = words[at]
    if (isOneOf(word, '-j', '-g')) {
      target = words[at + 1]?.text ?? null
      isGoto = word.text === '-g'
      options = words.slice(at + 2).map(({ text }) => text)
      break
    }
    const isModule = isOneOf(word, '-m')
    const name = isModule ? (words[at + 1]?.text ?? '') : ''
    const from = isModule ? at + 2 : at
    const to = endOf(words, from, name)
    for (const match of matchOf(name, optionsOf(words.slice(from, to)), around, tells)) found.push(match)
    at = Math.max(to, at + 1)
  }
  const fixed = found.reduce<Split>((sum, match) => (typeof match === 'function' ? sum : both(sum, match)), ALWAYS)
  if (fixed.hit === NONE) return null
  return { line, target, isGoto, options, fixed, matches: found.filter((match) => typeof match === 'function'), tells }
}

/** How many of such strangers a rule matches. */
export function matched({ fixed, matches }: Rule, packet: Stranger, past: number): Split {
  let split = fixed
  for (const match of matches) {
    split = both(split, match(packet, past))
    if (split.hit === NONE) break
  }
  return split
}

/** A rule for one address: lists of banned ones may have 100,000 of them. */
const FOR_ONE = /^-A \S+ -s [0-9a-f.:]+\/(32|128) /

function wordsOf(line: string): Word[] {
  if (!line.includes('"')) return line.split(' ').map((text) => ({ text, isQuoted: false }))
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, bare]) =>
    quoted === undefined ? { text: bare, isQuoted: false } : { text: quoted.replace(/\\(.)/g, '$1'), isQuoted: true },
  )
}

const isOneOf = (word: Word | undefined, ...names: string[]): boolean =>
  word !== undefined && !word.isQuoted && names.includes(word.text)

/** Where the options of a match end. A comment may be any word. */
function endOf(words: readonly Word[], from: number, name: string): number {
  if (name === 'comment') return Math.min(from + 2, words.length)
  let to = from
  while (to < words.length && !isOneOf(words[to], '-m', '-j', '-g')) to++
  return to
}

function optionsOf(words: readonly Word[]): Option[] {
  const options: { name: string; isNot: boolean; args: string[] }[] = []
  let isNot = false
  for (const { text, isQuoted } of words) {
    if (!isQuoted && text === '!') isNot = true
    else if (!isQuoted && /^-(-[a-z]|[a-z]$)/.test(text)) {
      options.push({ name: text, isNot, args: [] })
      isNot = false
    } else options.at(-1)?.args.push(text)
  }
  return options
}
