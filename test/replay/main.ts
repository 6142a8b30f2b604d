// npm run attack: every attack on Knockturn in one table, with the effect of the same attacks on Debian's knockd and fwknop.
//
//     node test/run.mjs test/replay/main.ts [--json] [--long] [--only NAME|KIND]... [--backend iptables|nftables]
//
// Run by test/bootstrap.mjs, in namespaces of its own. First the attacks in one process, with clocks of their own; then those on real
// hosts, with real packets and the firewall of --backend (iptables). Exit status 1 if one of them has opened a door of ours, or has kept an honest user out.

import { parseArgs } from 'node:util'
import { BACKENDS, chooseBackend, usualBackend } from '../lab/backend'
import { anyDoor } from './any-door'
import { type Attack, holds, isOf, KINDS, type Outcome, type Scale } from './attack'
import { catalogue } from './catalogue'
import { fwknop, knockd, missing } from './doors'
import { floods } from './floods'
import { hosts } from './hosts'

/** Characters of a log message that fit into the table. */
const WORDS = 24

/** peers: their outcomes, or why there is none */
export type Row = Attack & { where: string; outcome: Outcome; held: boolean; peers: Record<string, Outcome | string> }

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean' },
    long: { type: 'boolean' },
    only: { type: 'string', multiple: true, default: [] },
    backend: { type: 'string' },
  },
})
const scale: Scale = { isLong: options.long ?? false, times: (full, long) => (options.long ? long : full) }
const PEERS = [knockd, fwknop]

/** Runs an attack; one that fails to run does not count as held off. */
async function outcomeOf(run: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await run()
  } catch (error) {
    return { tried: 0, opened: 0, broken: [error instanceof Error ? error.message : String(error)] }
  }
}

/** The outcome of the same attack on the peers. */
async function besides({ name }: Attack) {
  const attack = anyDoor.find((one) => one.name === name)
  const peers: Record<string, Outcome | string> = {}
  const toothless: string[] = []
  for (const peer of attack ? PEERS : []) {
    const outcome = missing(peer) ?? (await outcomeOf(() => attack?.run(peer, scale) ?? Promise.reject()))
    const isThere = typeof outcome !== 'string' && outcome.tried > 0
    peers[peer.name] = isThere || typeof outcome === 'string' ? outcome : `failed: ${outcome.broken?.[0]?.split('\n')[0]}`
    if (isThere && outcome.opened === 0 && attack?.opens.includes(peer.name))
      toothless.push(`it should open ${peer.name} and does not: it proves nothing`)
  }
  return { peers, toothless }
}

async function rowOf(where: string, attack: Attack): Promise<Row> {
  const began = performance.now()
  const ours = await outcomeOf(() => attack.run(scale))
  const { peers, toothless } = where === 'host' ? await besides(attack) : { peers: {}, toothless: [] }
  const outcome = { ...ours, broken: [...(ours.broken ?? []), ...toothless] }
  console.error(`${attack.kind}: ${attack.name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return { ...attack, where, outcome, held: outcome.tried > 0 && holds(outcome), peers }
}

// ---- the table

const times = (count: number) => count.toLocaleString('en-US')
const part = (of: { tried: number; opened: number } | undefined) => (of ? `${times(of.opened)} of ${times(of.tried)}` : '')
/** What a peer let in, and whom it kept out. */
const beside = (outcome: Outcome | string | undefined) =>
  typeof outcome === 'object' ? `${part(outcome)} (${part(outcome.honest)})` : (outcome ?? '')
/** Long messages are shortened; --json has all of them. */
const short = (text: string) => (text.length > WORDS ? `${text.slice(0, WORDS)}…` : text)
const COLUMNS = ['', 'opened', 'honest', ...PEERS.map(({ name }) => name), 'logged']

/** @returns lines of text */
function table(rows: Row[]) {
  const cells = rows.map(({ name, outcome, held, peers }) => [
    `${held ? '✓' : '✗'} ${name}`,
    part(outcome),
    part(outcome.honest),
    ...PEERS.map((peer) => beside(peers[peer.name])),
    Object.entries(outcome.said ?? {})
      .map(([what, count]) => `${short(what)} ${times(count)}`)
      .join(', '),
  ])
  const widths = COLUMNS.map((column, i) => Math.max(column.length, ...cells.map((line) => line[i]?.length ?? 0)))
  const line = (of: string[]) => of.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')
  return [
    line(COLUMNS),
    ...KINDS.flatMap((kind) => {
      const ofKind = rows.flatMap((row, i) => (row.kind === kind ? [{ row, text: line(cells[i] ?? []) }] : []))
      const told = ofKind.flatMap(({ row: { outcome }, text }) => [
        text,
        ...(outcome.note ? [`    ${outcome.note}`] : []),
        ...(outcome.broken ?? []).map((why) => `    BROKEN: ${why}`),
      ])
      return told.length > 0 ? ['', kind, ...told] : []
    }),
  ].map((text) => text.trimEnd())
}

// ---- on one screen

const all = [
  ...catalogue.map((attack) => ({ where: 'process', attack })),
  ...[...hosts, ...floods].map((attack) => ({ where: 'host', attack })),
]
const { only } = options
const refusal = chooseBackend(options.backend)
const fits = ({ kind, name }: Attack) => only.length === 0 || only.some((word) => word === kind || name.includes(word))
const unknown = only.filter((word) => !all.some(({ attack: { kind, name } }) => kind === word || name.includes(word)))
if (refusal) {
  console.error(refusal)
  process.exitCode = 2
} else if (unknown.length > 0) {
  console.error(`no attack matches --only ${unknown.join()}\nhint: give a part of a name, or a kind: ${KINDS.join(', ')}`)
  process.exitCode = 2
} else {
  attack()
}

/** Runs the chosen attacks, and prints the table. */
async function attack(): Promise<void> {
  const backend = usualBackend()
  const chosen = all.filter(({ attack }) => fits(attack))
  console.error(`real hosts have backend ${backend}; in one process, the firewall is simulated`)
  const rows: Row[] = []
  for (const { where, attack } of chosen) if (isOf(attack, backend)) rows.push(await rowOf(where, attack))
  const lost = rows.filter(({ held }) => !held)
  if (options.json) console.log(JSON.stringify(rows, null, 2))
  else
    console.log(
      [
        ...table(rows),
        '',
        'opened          tries that opened a door, of all tries',
        "honest          users' knocks that opened",
        'knockd, fwknop  the same for them: opened (honest)',
        'logged          what our daemon logged, and how often',
        '',
        `Backend ${backend}.`,
        ...BACKENDS.filter((other) => other !== backend).map((other) => {
          const names = chosen
            .filter(({ attack }) => !isOf(attack, backend) && isOf(attack, other))
            .map(({ attack }) => attack.name)
          return `Not tried, of ${other} only: ${names.length}${names.length > 0 ? ` (${names.join('; ')})` : ''}.`
        }),
        lost.length === 0
          ? `All ${rows.length} attacks were held off.`
          : `Not held off: ${lost.map(({ name }) => name).join('; ')}`,
      ].join('\n'),
    )
  if (lost.length > 0) process.exitCode = 1
}
