import { LISTEN } from '../../daemon/fleet/beats'
import { behind, type Header, type Row } from '../../daemon/fleet/etcd/etcd'
import { type GatewayWord, parseKeys, parseWord } from '../../daemon/fleet/gateway-row'
import { type Base, parseBase, readShared, SHARED } from '../../daemon/fleet/rows'
import { Fault } from '../../system/fault'
import type { Place } from './place'

/* What a fleet shares, as somebody sees it who listens for a moment. */

/** A gateway as it was heard. */
export interface Gateway {
  readonly name: string
  /** The revision of etcd's at which its row was written. */
  readonly modified: number
  /** What it says of itself, or has said last; null: nothing that this program reads. */
  readonly said: GatewayWord | null
  /** Whether it has said something just now. */
  readonly speaks: boolean
  /** The fingerprints of its keys, the first thousands of them; null: it has not told them. */
  readonly keys: readonly string[] | null
  /** By how many milliseconds its clock is ahead of this one, less the way; null: it does not speak. */
  readonly offset: number | null
}

/** What a fleet shares. */
export interface Shared {
  /** The base, and its text as etcd has it; null: there is none. The base by itself is null where this program does not read it. */
  readonly base: { readonly base: Base | null; readonly value: string } | null
  /** By their names. */
  readonly gateways: readonly Gateway[]
  /** How many of each are shared. */
  readonly leases: number
  readonly locks: number
  readonly revoked: number
  /** Of the answer. */
  readonly header: Header
}

/**
 * Looks at all that a fleet shares, and listens which gateways speak.
 * @param only the gateway that matters: it is listened for, and no other; absent: all
 * @throws {Unavailable} where etcd can't be asked
 * @throws {Fault} where the watch breaks: nobody knows then who does not speak
 */
export async function lookAtFleet(place: Pick<Place, 'etcd' | 'now' | 'wait'>, only?: string): Promise<Shared> {
  const { header, rows } = await place.etcd.list(SHARED, behind(SHARED))
  const of = (kind: NonNullable<ReturnType<typeof readShared>>['kind']) =>
    rows.filter(({ row }) => readShared(row)?.kind === kind)
  const keys = new Map(of('keys').map((row) => [nameOf(row), parseKeys(row.value)]))
  const gateways = new Map(of('gateway').map((row) => [nameOf(row), gatewayOf(row, keys, null)]))
  const awaited = only === undefined ? [...gateways.keys()] : [only].filter((name) => gateways.has(name))
  await listen(place, header.revision + 1, awaited, gateways, keys)
  const [base] = of('base')
  return {
    base: base ? { base: parseBase(base.value), value: base.value } : null,
    gateways: [...gateways.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    ...{ leases: of('lease').length, locks: of('lock').length, revoked: of('revoked').length },
    header,
  }
}

/**
 * Listens until all have spoken that are awaited, or their time is over.
 * @param gateways those that are known; they are told anew as they speak
 */
async function listen(
  { etcd, now, wait }: Pick<Place, 'etcd' | 'now' | 'wait'>,
  revision: number,
  awaited: readonly string[],
  gateways: Map<string, Gateway>,
  keys: ReadonlyMap<string, Gateway['keys']>,
): Promise<void> {
  if (awaited.length === 0) return
  const ending = new AbortController()
  const broken = await new Promise<string | null>((resolve) => {
    etcd.watch(
      ...([`${SHARED}gateway/`, behind(`${SHARED}gateway/`), revision] as const),
      {
        changed: (changes) => {
          for (const change of changes) {
            if (!('put' in change)) continue
            const was = gateways.get(nameOf(change.put))?.offset ?? null
            gateways.set(nameOf(change.put), gatewayOf(change.put, keys, { at: now(), was }))
          }
          if (awaited.every((name) => gateways.get(name)?.speaks)) resolve(null)
        },
        broke: resolve,
      },
      ending.signal,
    )
    wait(LISTEN, ending.signal).then(() => resolve(null))
  })
  ending.abort()
  if (broken !== null)
    throw new Fault(`etcd fell silent while the gateways were listened to: ${broken}`, { hint: 'run the command again' })
}

const nameOf = ({ row }: Row): string => readShared(row)?.rest ?? ''

/**
 * A gateway by its row.
 * @param heard when, in Unix milliseconds, and its offset by what was heard before; null: it is of the past. A delay only lowers an offset, so that
 * the highest one is the nearest.
 */
function gatewayOf(
  row: Row,
  keys: ReadonlyMap<string, Gateway['keys']>,
  heard: { readonly at: number; readonly was: number | null } | null,
): Gateway {
  const said = parseWord(row.value)
  const offset = heard && said ? Math.max(said.wall - heard.at, heard.was ?? Number.NEGATIVE_INFINITY) : null
  const name = nameOf(row)
  return { name, modified: row.modified, said, keys: keys.get(name) ?? null, speaks: heard !== null, offset }
}
