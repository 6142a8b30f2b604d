import type { Command } from 'commander'
import type { Asked, Explanation, Row } from '../../admin/explain/case'
import { explain } from '../../admin/explain/explain'
import { canonicalAddress } from '../../protocol/address'
import type { Action } from '../../protocol/request'
import { formatService, readTyped, type TypedService } from '../../protocol/service'
import { printable, UsageFault } from '../../system/fault'
import { formatDuration, isoTime, parseLifetime } from '../../system/time'
import { checkId, reading, subcommand } from '../options'
import { paint, type Style } from '../paint'
import { EXIT, hintAt, jsonOption, printJson } from '../voice'
import { configOption } from './places'
import { print } from './voice'

interface ExplainOptions {
  readonly from: string
  readonly port: TypedService
  readonly time?: number
  readonly address?: string
  readonly close?: boolean
  readonly lock?: boolean
  readonly once?: boolean
  readonly config: string
  readonly json?: boolean
}

/** How each verdict is shown. */
const MARKS: Readonly<Record<Row['verdict'], readonly [mark: string, style: Style]>> = {
  met: ['ok', 'good'],
  refuses: ['NO', 'bad'],
  unknown: ['?', 'warn'],
  note: ['note', 'warn'],
}
/** Longest that a place is for which others are moved to the right. */
const MAX_WHERE = 50

/** Gives knockturn the command that explains what would become of a knock. */
export function addExplain(parent: Command): void {
  const readAddress = (flags: string, description: string) =>
    reading(flags, description, canonicalAddress, 'an IPv4 or IPv6 address')
  subcommand(
    parent,
    'explain <id>',
    'explain whether a knock of a key would open, and if not, which rule says no: nothing is sent or changed',
    'explain alice --from 203.0.113.9 -p 22',
  )
    .addOption(readAddress('--from <address>', 'the address that the knock would come from').makeOptionMandatory())
    .addOption(
      reading(
        '-p, --port <port>',
        'the port that it asks for; 0: all that the key opens',
        readTyped,
        'a port such as 22 or 22/tcp',
      ).default({ port: 0, protocol: null }, '0'),
    )
    .addOption(
      reading(
        '-t, --time <time>',
        'how long it asks for; 0: until closed (default: 5m, or the longest that the key may)',
        readTime,
        '0, minutes, or a duration such as 90s or 1h30m, at most 16,777,215 s',
      ),
    )
    .addOption(readAddress('-i, --address <address>', 'the address that it names, if it names one'))
    .option('--close', 'it asks to close')
    .option('--lock', 'it asks to ban')
    .option('--once', 'it asks for one connection')
    .addOption(configOption())
    .addOption(jsonOption())
    .action(explainKnock)
}

function readTime(text: string): number | null {
  if (text === '0') return 0
  return /^\d{1,3}$/.test(text) && Number(text) < 255 ? Number(text) * 60 : parseLifetime(text)
}

async function explainKnock(id: string, options: ExplainOptions): Promise<void> {
  checkId(id)
  const { close, lock, once, from, port, address, config, json } = options
  if (close && lock) throw new UsageFault('--close cannot be used with --lock')
  if ((close || lock) && once) throw new UsageFault('--once cannot be used with --close or --lock')
  const asked: Asked = {
    source: from,
    address: address ?? null,
    action: close ? 'close' : lock ? 'lock' : 'open',
    port: port.port,
    protocol: port.protocol ?? 'any',
    seconds: options.time ?? null,
    once: once ?? false,
  }
  const explanation = await explain(config, id, asked, Date.now())
  if (json) printJson(inJson(id, asked, explanation))
  else printWords(id, asked, explanation)
  process.exitCode = explanation.would ? EXIT.ok : EXIT.failure
}

function inJson(key: string, asked: Asked, { would, seconds, grant, rows }: Explanation): object {
  const until = grant && (grant.until === null ? null : isoTime(grant.until * 1000))
  return {
    key,
    asked: { ...asked, seconds },
    would,
    grant: grant && { address: grant.address, services: grant.services.map(formatService), until },
    rules: rows.map(({ rule, verdict, where, says, refusal }) => ({ rule, verdict, where, says, refusal })),
  }
}

const VERBS: Readonly<Record<Action, string>> = { open: 'open', close: 'close', lock: 'ban' }

/** Where the daemon itself is the reason. */
const LOOK = 'look at it with "knockturn status"'

function printWords(id: string, asked: Asked, explanation: Explanation): void {
  print(printable(`a knock of ${id} from ${asked.source}, to ${inWords({ ...asked, seconds: explanation.seconds })}`))
  printRows(explanation.rows)
  const first = (verdict: Row['verdict']) => explanation.rows.find((row) => row.verdict === verdict)
  const verb = VERBS[asked.action]
  const refusing = first('refuses')
  if (refusing) {
    const { rule, where, says, refusal } = refusing
    print(paint('bad', printable(`would not ${verb}${refusal ? ` (${refusal})` : ''}: ${says}`)))
    if (where) hintAt(`see ${rule} in ${where}`)
    else if (rule === 'daemon') hintAt(LOOK)
  } else if (explanation.would === null) {
    print(paint('warn', printable(`cannot tell whether it would ${verb}: ${first('unknown')?.says}`)))
    if (first('unknown')?.rule === 'daemon') hintAt(LOOK)
  } else print(paint('good', printable(`would ${outcome(asked, explanation)}`)))
}

function printRows(rows: readonly Row[]): void {
  const names = Math.max(...rows.map(({ rule }) => rule.length))
  const places = Math.min(MAX_WHERE, Math.max(...rows.map(({ where }) => where?.length ?? 1)))
  for (const { rule, verdict, where, says } of rows) {
    const [mark, style] = MARKS[verdict]
    const cells = [rule.padEnd(names), (where ?? '-').padEnd(places), says]
    print(`  ${paint(style, mark.padEnd(4))}  ${printable(cells.join('  '))}`)
  }
}

/** What is asked, in words. */
function inWords({ action, port, protocol, seconds, address, once }: Asked): string {
  const what = port === 0 ? 'all that the key opens' : protocol === 'any' ? `port ${port}` : `${port}/${protocol}`
  const whom = address === null ? '' : ` for ${address}`
  const time = seconds === null ? '' : seconds === 0 ? ', until closed' : `, for ${formatDuration(seconds)}`
  if (action === 'lock') return `ban ${address ?? 'that address'}${seconds === 0 ? '' : time}`
  return `${action} ${what}${whom}${action === 'close' ? '' : time}${once ? ', for one connection' : ''}`
}

/** What it would do. */
function outcome({ action }: Asked, { grant }: Explanation): string {
  const { services, address, until } = grant ?? { services: [], address: '', until: null }
  const time = until === null ? 'until closed' : `until ${isoTime(until * 1000)}`
  const what = services.length > 0 ? services.map(formatService).join(', ') : 'all ports'
  if (action === 'lock') return `ban ${address} ${time}`
  return `${action} ${what} for ${address}${action === 'close' ? ', as far as the key has opened it' : ` ${time}`}`
}
