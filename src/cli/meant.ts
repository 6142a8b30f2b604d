import { isIP } from 'node:net'
import type { Command } from 'commander'
import { readTyped } from '../protocol/service'
import { quoted, UsageFault } from '../system/fault'
import { pathOf } from './pointer'

/* What hands type where something else is meant, and what to type for it. */

/** Longest word that is quoted back. */
const MAX_WORD = 60
/** A host, as it can stand in a shell unquoted; somebody at it is left out. */
const HOST = /^(?:[\w.-]+@)?([\w.:-]+)$/
/** A host and a port behind it, an IPv6 address in brackets. */
const HOST_AND_PORT = /^(?:[\w.-]+@)?(?:\[([\da-f:.]+)\]|([\w.-]+)):(\d+)$/i
/** How to see the state of things, by program. */
const STATUS: Readonly<Record<string, string>> = {
  knockclient: 'a server never answers: knock with --wait, which tries the port',
  knockdaemon: 'run "knockturn status" to see whether it runs and hears, or "knockturn doctor" to see what is wrong',
}

/** The commands of another program that are typed to one, and whose they are. */
const ANOTHERS: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  knockclient: [
    'knockturn',
    ['key', 'lease', 'lock', 'log', 'explain', 'replay', 'listen', 'firewall', 'guard', 'ledger', 'page', 'setup', 'uninstall'],
  ],
  knockturn: ['knockclient', ['add', 'connect', 'exec', 'profile']],
}

/** A command and all below it. */
export function walk(command: Command): Command[] {
  return [command, ...command.commands.flatMap(walk)]
}

/**
 * What to type for a word that is no command of a program's: a command below, or an option of that name.
 * @param of for "help": the command whose help it is
 * @returns a hint, or undefined
 */
export function meantByWord(command: Command, word: string, of?: string): string | undefined {
  const program = pathOf(command).split(' ')[0]
  if (word === 'status' && STATUS[program]) return STATUS[program]
  if (program === 'knockdaemon' && /^(start|stop|restart|reload)$/.test(word))
    return `run "systemctl ${word} knockdaemon", if its unit is installed${word === 'start' ? ', or knockdaemon without "start"' : ''}`
  const [other, theirs = []] = ANOTHERS[program] ?? []
  if (theirs.includes(word)) return `"${word}" is a command of ${other}: run "${other} ${word}"`
  const topic = word === 'help' ? command.commands.find((one) => one.name() === of) : undefined
  if (topic) return meantByWord(topic, word)
  const below = walk(command).filter((one) => one !== command && one.name() === word)
  const options = [...command.options.flatMap(({ long }) => long ?? []), '--help'].filter((long) => long === `--${word}`)
  const lines = [...below.map(pathOf), ...options.map((long) => `${pathOf(command)} ${long}`)]
  return lines.length > 0 ? `run ${lines.map((line) => `"${line}"`).join(' or ')}` : undefined
}

/**
 * What to type for words that name a server or a port, where a profile is expected.
 * @param profiles the names of those that there are
 * @returns a hint, or undefined
 */
export function meantByWords(program: string, words: readonly string[], profiles: readonly string[]): string | undefined {
  const isPort = (word: string | undefined) => word !== undefined && readTyped(word) !== null
  const [first, second] = words.every((word) => word.length <= MAX_WORD) ? words : []
  if (first === undefined || words.length > 2) return undefined
  const port = [first, second].find(isPort)
  const other = [first, second].find((word) => word !== undefined && !isPort(word))
  if (other === undefined) return words.length === 1 ? `run "${program} -p ${first}"` : undefined
  const behind = port === undefined ? '' : ` -p ${port}`
  if (words.length === 2 && port === undefined) return undefined
  if (profiles.includes(other)) return `run "${program} ${other}${behind}"`
  const [, address, named, its] = (isIP(other) ? null : HOST_AND_PORT.exec(other)) ?? []
  if (its !== undefined && port === undefined) return `run "${program} -r ${address ?? named} -p ${its}"`
  const [, host] = HOST.exec(other) ?? []
  if (host === undefined) return undefined
  const isName = profiles.length === 0 && words.length === 1 && !/[.:@]/.test(other)
  const save = isName ? `to make that profile, run "${program} profile save ${host}"; ` : ''
  return `${save}to knock at a server of that name, run "${program} -r ${host}${behind}"`
}

/** Refuses a word that is no command. @throws {UsageFault} always, with what to type where that can be told */
export function refuseWord(command: Command, word: string): never {
  throw new UsageFault(`unknown command ${quoted(word)}`, { hint: meantByWord(command, word) })
}
