import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { lookAtServer, type Status } from '../../admin/status'
import type { StateFleet } from '../../daemon/state/fleet'
import type { StateKey } from '../../daemon/state/state'
import { printable, UsageFault } from '../../system/fault'
import { isoTime } from '../../system/time'
import { subcommand } from '../options'
import { paint } from '../paint'
import { EXIT, failWith, jsonOption, printJson, tableLines } from '../voice'
import { endingAfter } from './ending'
import { leaseTable } from './lease'
import { lockTable } from './lock'
import { configOption } from './places'
import { NAME, print, told } from './voice'

/** Rows of each kind that are shown, unless all are asked for: a screen. */
const MAX_ROWS = 10
/** Milliseconds between two looks: as often as anybody reads. */
const PACE = 2_000
/** Home, and all behind it away. */
const CLEAR = '\x1b[H\x1b[2J'

interface Options {
  readonly watch?: boolean
  readonly all?: boolean
  readonly json?: boolean
  readonly config: string
}

/** Gives knockturn the command that shows how the server stands. */
export function addStatus(parent: Command): void {
  subcommand(parent, 'status', 'show whether the daemon hears, what is guarded, what is open and for whom', 'status')
    .option('--watch', 'look again every two seconds, until Ctrl-C')
    .option('--all', `show all leases, locks and keys, and not ${MAX_ROWS} of each`)
    .addOption(jsonOption())
    .addOption(configOption())
    .action(showStatus)
}

async function showStatus({ watch = false, all = false, json = false, config }: Options): Promise<void> {
  if (json && all) throw new UsageFault('--all does not go with --json, which has all of them')
  const rows = all ? Number.POSITIVE_INFINITY : MAX_ROWS
  const showOnce = async () => {
    const now = Date.now()
    const status = await lookAtServer(config, now)
    if (watch && process.stdout.isTTY && !json) process.stdout.write(CLEAR)
    if (json) printJson(documentOf(status, now))
    else print(linesOf(status, now, rows).join('\n'))
    // In JSON they are part of the document.
    if (!json) failWith(NAME, status.faults)
    return status.faults.length > 0 ? EXIT.failure : EXIT.ok
  }
  if (!watch) process.exitCode = await showOnce()
  else await again(showOnce)
}

/** Does something every {@link PACE} milliseconds, until a signal ends it. */
async function again(act: () => Promise<unknown>): Promise<void> {
  const ending = endingAfter(Infinity)
  try {
    while (!ending.signal.aborted) {
      await act()
      await sleep(PACE, undefined, { signal: ending.signal }).catch(() => {})
    }
  } finally {
    ending.abort()
  }
}

/** A status as JSON has it, as docs/man/knockturn.1 describes it. */
export function documentOf(status: Status, now: number): object {
  const { life, state, written, guard, config, by, leases, locks, faults } = status
  const { program = null, pid = null, started = null, hearing = null, lastTap = null, lastKnock = null } = state ?? {}
  return {
    version: 1,
    at: isoTime(now),
    well: faults.length === 0,
    faults: faults.map(({ message, hint }) => ({ message, hint: hint ?? null })),
    ...config,
    daemon: {
      ...{ life, written: written === null ? null : isoTime(written) },
      ...{ program, pid, started, hearing, lastTap, lastKnock, taps: state?.taps ?? null },
    },
    guard: { ports: guard.ports, loaded: guard.isLoaded, permanent: guard.isPermanent },
    by,
    leases,
    locks,
    keys: state?.keys ?? null,
    fleet: state?.fleet ?? null,
    day: state?.day ?? null,
  }
}

/** A status in words. @param most rows of each kind */
export function linesOf(status: Status, now: number, most: number): string[] {
  const { config, by, leases, locks, state } = status
  return [
    line('daemon', lifeIn(status, now)),
    ...(state ? [line('hearing', hearingIn(status, now))] : []),
    ...(state?.fleet ? [line('fleet', fleetIn(status, state.fleet, now))] : []),
    line('server', printable(`${config.server}, ${config.file}`)),
    line('firewall', `${config.backend}, taps by ${config.source}`),
    line('guard', guardIn(status)),
    ...part('leases', by, leases.length, leaseTable(leases.slice(0, most), now), 'knockturn lease list'),
    ...part('locks', by, locks.length, lockTable(locks.slice(0, most), now), 'knockturn lock list'),
    ...(state ? keysIn(state.keys, now, most) : []),
    ...(state ? [line('last day', dayIn(state.day))] : []),
  ]
}

const line = (name: string, text: string): string => `${paint('head', name.padEnd(LABEL))}${text}`
/** Characters of a name in front, and of the space behind it. */
const LABEL = 10

function lifeIn({ life, state, written }: Status, now: number): string {
  const since = state ? printable(`, ${state.program}, pid ${state.pid}, started ${told(state.started, now)}`) : ''
  const last = written === null ? ', and has left no word of itself' : `, last heard of ${told(isoTime(written), now)}`
  switch (life) {
    case 'alive':
      return `${paint('good', 'alive')}${since}`
    case 'silent':
      return `${paint('bad', 'running, and silent')}${last}`
    case 'dead':
      return `${paint('bad', 'dead')}${last}`
    case 'unknown':
      return paint('warn', 'unknown')
  }
}

/** What is said of the daemon's hearing. */
function hearingOf(hearing: NonNullable<Status['state']>['hearing']): string {
  switch (hearing) {
    case 'well':
      return paint('good', 'well')
    case 'deaf':
      return paint('bad', 'deaf')
    case 'waiting':
      return paint('bad', 'not begun yet')
    case 'alone':
      return `${paint('warn', 'not known')}: nobody sends probes`
    case 'unknown':
      return `${paint('warn', 'not known')}: no probe has arrived ("knockturn doctor" sends one)`
  }
}

/** @param status one with a state */
function hearingIn({ life, state }: Status, now: number): string {
  if (!state) return ''
  const { hearing, lastTap, lastKnock, taps } = state
  const how = life === 'alive' ? hearingOf(hearing) : paint('warn', 'not known: no daemon answers')
  const tap = lastTap ? `last tap ${told(lastTap, now)}` : 'no tap yet'
  const knock = lastKnock
    ? `last knock ${told(lastKnock.at, now)}: ${lastKnock.action} by ${lastKnock.key} from ${lastKnock.source}, ${lastKnock.outcome}`
    : 'no knock yet'
  const lost = taps.dropped ? `; the kernel has dropped ${number(taps.dropped)} taps` : ''
  return `${how}; ${printable(`${tap}; ${knock}`)}${lost}`
}

/** How its daemon stands in a fleet. */
function fleetIn({ life }: Status, { gateway, link, since, gateways }: StateFleet, now: number): string {
  const speaking = gateways.filter(({ offset }) => offset !== null)
  const how =
    life !== 'alive'
      ? paint('warn', 'not known: no daemon answers')
      : link === null
        ? paint('good', 'accepts knocks')
        : paint('bad', 'accepts none')
  const others = `${speaking.length} of ${gateways.length} other gateways ${speaking.length === 1 ? 'speaks' : 'speak'}`
  return `${how}${printable(`, since ${told(since, now)}, as ${gateway}; ${others}`)}`
}

function guardIn({ guard: { ports, isLoaded, isPermanent } }: Status): string {
  const what = ports.length === 0 ? 'none: what is shut is up to the rest of the firewall' : `${ports.join(', ')}`
  const loaded = isLoaded === null ? null : isLoaded ? paint('good', 'loaded') : paint('bad', 'not loaded')
  if (ports.length === 0) return isLoaded === false ? `${what}; Knockturn's rules ${paint('bad', 'not in place')}` : what
  const atBoot = isPermanent
    ? paint('good', 'permanent')
    : isPermanent === null
      ? paint('warn', 'at boot: not known')
      : paint('bad', 'not loaded at boot')
  return `${loaded ?? paint('warn', 'not known whether it is loaded')}, ${atBoot}: ${what}`
}

/** A table below its number, as far as it is shown. @param by null: nobody could tell @param more what shows the rest */
function part(name: string, by: Status['by'], count: number, [head, ...rows]: readonly string[], more: string): string[] {
  if (by === null) return [line(name, paint('warn', 'not known'))]
  const says = by === 'firewall' ? ' (by the firewall)' : ''
  if (count === 0) return [line(name, `none${says}`)]
  const rest = count - rows.length
  return [
    line(name, `${number(count)}${says}`),
    `  ${paint('dim', head ?? '')}`,
    ...rows.map((row) => `  ${row}`),
    ...(rest > 0 ? [`  and ${number(rest)} more: "${more}"`] : []),
  ]
}

/** Those that end first, and of the others those that were used last. */
function keysIn(keys: readonly StateKey[], now: number, most: number): string[] {
  const rank = ({ expires, lastUse }: StateKey) => [expires === null ? '~' : expires, lastUse?.at ?? ''] as const
  const sorted = keys
    .map((key) => ({ key, rank: rank(key) }))
    .sort((a, b) => compare(a.rank[0], b.rank[0]) || compare(b.rank[1], a.rank[1]))
    .map(({ key }) => key)
  const rows = sorted
    .slice(0, most)
    .map(({ id, fingerprint, expires, lastUse }) => [
      id,
      fingerprint.slice(0, 8),
      lastUse ? `${told(lastUse.at, now)} from ${lastUse.source}` : 'never',
      lastUse ? clockIn(lastUse.windowsOff) : '',
      expires === null ? 'never' : told(expires, now),
    ])
  const table = tableLines([['KEY', 'FINGERPRINT', 'LAST USED', 'CLOCK', 'EXPIRES'], ...rows])
  return part('keys', 'daemon', keys.length, table, 'knockturn status --all')
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** By how far the clock of whoever knocked was off. */
function clockIn(windows: number): string {
  if (windows === 0) return 'right'
  return `${Math.abs(windows)} window${Math.abs(windows) === 1 ? '' : 's'} ${windows > 0 ? 'ahead' : 'behind'}`
}

function dayIn({ since, accepted, refused, taps, dropped, busiest }: NonNullable<Status['state']>['day']): string {
  const each = Object.entries(refused).filter(([, count]) => count)
  const all = each.reduce((sum, [, count]) => sum + (count ?? 0), 0)
  const of = each.length > 0 ? ` (${each.map(([name, count]) => `${name} ${number(count ?? 0)}`).join(', ')})` : ''
  const most = busiest ? `; the busiest minute at ${busiest.at} had ${number(busiest.taps)}` : ''
  const counts = `${number(accepted)} knocks accepted, ${number(all)} refused${of}; ${number(taps)} taps, ${number(dropped)} dropped${most}`
  return printable(`${counts}; since ${since}`)
}

const number = (count: number): string => count.toLocaleString('en-US')
