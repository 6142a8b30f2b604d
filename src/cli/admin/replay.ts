import type { Command } from 'commander'
import type { Found } from '../../admin/replay/findings'
import { type Replayed, type ReplayedSource, replay } from '../../admin/replay/replay'
import { type Cidr, parseCidr } from '../../protocol/address'
import type { Request } from '../../protocol/request'
import { parseInstant } from '../../system/calendar'
import { printable } from '../../system/fault'
import { isoTime } from '../../system/time'
import { reading, subcommand } from '../options'
import { paint } from '../paint'
import { EXIT, jsonOption, printJson } from '../voice'
import { configOption } from './places'
import { isOfKey, sentenceOf } from './replay-words'
import { print, warn, warnEach } from './voice'

/** Sources, and things heard of one, that are shown to people; --json has all. */
const MAX_SHOWN = 50
const MAX_HEARD = 20
const OF_KEYS = 'run "knockdaemon --check" to see them'

interface Options {
  config: string
  keys?: string
  at?: number
  from?: Cidr
  json?: boolean
}

/** Gives knockturn the command that runs a recording through a daemon that opens nothing. */
export function addReplay(parent: Command): void {
  subcommand(
    parent,
    'replay <file>',
    'say of each source in a capture (pcap) or a firewall log what the daemon would hear, and open nothing; "-" is standard input',
    'replay knocks.pcap',
  )
    .addOption(configOption())
    .option('--keys <dir>', "the keyring's folder (default: the one in the config)")
    .addOption(fromOption('hear nobody else than this address or block'))
    .addOption(
      reading(
        '--at <time>',
        'when the first packet came, as ISO 8601, for a log without times or a clock that was wrong',
        parseInstant,
        'a time such as 2026-11-30T21:04:00Z',
      ),
    )
    .addOption(jsonOption())
    .action(run)
}

/** The option for whose packets are meant. */
export const fromOption = (description: string) =>
  reading('--from <address>', description, parseCidr, 'an address such as 203.0.113.7, or a block such as 203.0.113.0/24')

async function run(file: string, { json, ...options }: Options): Promise<void> {
  const faults: string[] = []
  const replayed = await replay(file, options, (fault) => faults.push(fault), Date.now()).finally(() => warnEach(faults, OF_KEYS))
  if (json) printJson(documentOf(file, replayed))
  else show(file, replayed)
  const isGranted = replayed.sources.some(({ heard }) =>
    heard.some((found) => found.kind === 'knock' && found.outcome === 'accepted'),
  )
  process.exitCode = isGranted ? EXIT.ok : EXIT.failure
}

// ---- for people

function show(file: string, { format, seen, taps, unreadable, first, last, keys, sources, left, cut }: Replayed): void {
  const when = first === null || last === null ? '' : `, from ${isoTime(first)} to ${isoTime(last)}`
  print(
    paint('head', printable(`${file}: ${format}, ${seen} ${format.includes('log') ? 'lines' : 'packets'}, ${taps} taps${when}`)),
  )
  print(paint('dim', `${keys} keys, as they are now; as if no knock had been heard before, and nobody were locked`))
  const [known, strangers] = [
    sources.filter(({ heard }) => heard.some(isOfKey)),
    sources.filter(({ heard }) => !heard.some(isOfKey)),
  ]
  for (const source of known.slice(0, MAX_SHOWN)) showSource(source)
  if (known.length > MAX_SHOWN) print(`\n${known.length - MAX_SHOWN} more sources that knock: see them with --json`)
  if (strangers.length > 0) showStrangers(strangers)
  if (taps === 0) print('\nnothing in it is a tap: a new packet to a port of a pool, as the log rules hear it')
  if (unreadable > 0) warn(`${unreadable} lines or packets of the firewall's log cannot be read as taps`)
  if (left > 0) warn(`${left} more taps or bursts were left out: use --from to hear one source alone`)
  if (cut !== null) warn(`it was not read to its end: ${cut}`)
}

function showSource({ source, destination, taps, heard }: ReplayedSource): void {
  print(`\n${paint('head', `${source} to ${destination}`)}: ${taps} taps`)
  const news = heard.filter((found) => !isOldNews(found))
  for (const found of news.slice(0, MAX_HEARD))
    print(`  ${isoTime(found.at)}  ${paint(styleOf(found), printable(sentenceOf(found)))}`)
  const more = news.length - MAX_HEARD
  if (more > 0) print(`  and ${more} more: see them with --json`)
  const again = heard.length - news.length
  if (again > 0) print(paint('dim', `  said again ${again} times`))
}

const isOldNews = (found: Found): boolean => found.kind === 'knock' && ['retransmitted', 'repeated'].includes(found.outcome)

const styleOf = (found: Found) =>
  found.kind === 'knock' ? (found.outcome === 'accepted' ? 'good' : 'bad') : isOfKey(found) ? 'warn' : 'dim'

function showStrangers(strangers: readonly ReplayedSource[]): void {
  const taps = strangers.reduce((sum, { taps }) => sum + taps, 0)
  const most = [...strangers].sort((a, b) => b.taps - a.taps).slice(0, 5)
  const named = most.map(({ source, taps }) => `${source} (${taps})`).join(', ')
  print(
    `\nnot one knock of these keys: ${taps} taps of ${strangers.length} sources: ${named}${strangers.length > 5 ? ', …' : ''}`,
  )
}

// ---- for programs

function documentOf(file: string, { first, last, sources, ...rest }: Replayed): object {
  return {
    file,
    ...rest,
    first: timeOf(first),
    last: timeOf(last),
    sources: sources.map((its) => ({ ...its, first: timeOf(its.first), last: timeOf(its.last), heard: its.heard.map(foundOf) })),
  }
}

const timeOf = (at: number | null): string | null => (at === null ? null : isoTime(at))

function foundOf(found: Found): object {
  const { source: _, destination: __, at, ...rest } = found
  const request = 'request' in found ? { request: found.request && requestOf(found.request) } : {}
  const line = 'line' in found ? { line: found.line && without(found.line, 'level') } : {}
  const end = 'end' in found ? { end: timeOf(found.end) } : {}
  const spread = 'spread' in found ? { spread: Math.round(found.spread) / 1000 } : {}
  return { at: isoTime(at), ...rest, ...request, ...line, ...end, ...spread }
}

/** Without its salt, which means nothing. */
const requestOf = (request: Request) => without(request, 'salt')

function without<T extends object>(record: T, name: string): object {
  return Object.fromEntries(Object.entries(record).filter(([field]) => field !== name))
}
