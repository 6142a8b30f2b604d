// npm run attack: every attack on Knockturn in one table, and beside it what the same attacks do to Debian's knockd and fwknop.
//
//     node test/replay/main.mjs [--json] [--long] [--only NAME|KIND]...
//
// Run by test/bootstrap.mjs, in namespaces of its own. First those in one process, with clocks of their own; then those on real
// hosts, with real packets. Exit status 1 if one of them has opened a door of ours, or has cost an honest user his.

import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { bundleForNode } from '../../src/build/bundle.mjs'
import { anyDoor } from './any-door.mjs'
import { fwknop, knockd, missing } from './doors.mjs'
import { floods } from './floods.mjs'
import { hosts } from './hosts.mjs'

/** Characters of what the log said that a table has room for. */
const WORDS = 24
const HERE = fileURLToPath(new URL('.', import.meta.url))

/**
 * @typedef {import('./attack').Attack} Attack
 * @typedef {import('./attack').Outcome} Outcome
 * @typedef {import('./attack').Scale} Scale
 * @typedef {Attack & {where: string, outcome: Outcome, held: boolean, peers: Record<string, Outcome | string>}} Row peers: their outcomes, or
 *   why there is none
 */

/** The attacks in one process, with what judges them, as TypeScript has them. @returns {Promise<{catalogue: Attack[]} & typeof import('./attack')>} */
async function inOneProcess() {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-attack-'))
  const outfile = join(folder, 'catalogue.cjs')
  const contents = "export * from './attack'; export { catalogue } from './catalogue'"
  await bundleForNode({ stdin: { contents, resolveDir: HERE }, format: 'cjs', outfile })
  const bundle = createRequire(import.meta.url)(outfile)
  rmSync(folder, { recursive: true })
  return bundle
}

const { values: options } = parseArgs({
  options: { json: { type: 'boolean' }, long: { type: 'boolean' }, only: { type: 'string', multiple: true, default: [] } },
})
const { catalogue, holds, KINDS } = await inOneProcess()
/** @type {Scale} */
const scale = { isLong: options.long ?? false, times: (full, long) => (options.long ? long : full) }
const PEERS = [knockd, fwknop]

/** Runs an attack; one that fails by itself is no attack that was held off. @param {() => Promise<Outcome>} run @returns {Promise<Outcome>} */
async function outcomeOf(run) {
  try {
    return await run()
  } catch (error) {
    return { tried: 0, opened: 0, broken: [error instanceof Error ? error.message : String(error)] }
  }
}

/** What the peers make of the same attack. @param {Attack} attack */
async function besides({ name }) {
  const attack = anyDoor.find((one) => one.name === name)
  /** @type {Record<string, Outcome | string>} */
  const peers = {}
  /** @type {string[]} */
  const toothless = []
  for (const peer of attack ? PEERS : []) {
    const outcome = missing(peer) ?? (await outcomeOf(() => attack?.run(peer, scale) ?? Promise.reject()))
    const isThere = typeof outcome !== 'string' && outcome.tried > 0
    peers[peer.name] = isThere || typeof outcome === 'string' ? outcome : `failed: ${outcome.broken?.[0]?.split('\n')[0]}`
    if (isThere && outcome.opened === 0 && attack?.opens.includes(peer.name))
      toothless.push(`it does not open ${peer.name}, which it should: it does not bite`)
  }
  return { peers, toothless }
}

/** @param {string} where @param {Attack} attack @returns {Promise<Row>} */
async function rowOf(where, attack) {
  const began = performance.now()
  const ours = await outcomeOf(() => attack.run(scale))
  const { peers, toothless } = where === 'host' ? await besides(attack) : { peers: {}, toothless: [] }
  const outcome = { ...ours, broken: [...(ours.broken ?? []), ...toothless] }
  console.error(`${attack.kind}: ${attack.name}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return { ...attack, where, outcome, held: outcome.tried > 0 && holds(outcome), peers }
}

// ---- the table

const times = (/** @type {number} */ count) => count.toLocaleString('en-US')
const part = (/** @type {{tried: number, opened: number} | undefined} */ of) =>
  of ? `${times(of.opened)} of ${times(of.tried)}` : ''
/** What a peer let in, and whom it kept out. @param {Outcome | string | undefined} outcome */
const beside = (outcome) => (typeof outcome === 'object' ? `${part(outcome)} (${part(outcome.honest)})` : (outcome ?? ''))
/** Sentences are too long for a column; --json has all of them. @param {string} text */
const short = (text) => (text.length > WORDS ? `${text.slice(0, WORDS)}…` : text)
const COLUMNS = ['', 'opened', 'honest', ...PEERS.map(({ name }) => name), 'the log said']

/** @param {Row[]} rows @returns lines of text */
function table(rows) {
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
  const line = (/** @type {string[]} */ of) => of.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')
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
const fits = (/** @type {Attack} */ { kind, name }) =>
  only.length === 0 || only.some((word) => word === kind || name.includes(word))
const unknown = only.filter((word) => !all.some(({ attack: { kind, name } }) => kind === word || name.includes(word)))
if (unknown.length > 0) {
  console.error(`--only expected a part of a name, or one of ${KINDS.join(', ')}; got ${unknown.join()}`)
  process.exitCode = 2
} else {
  /** @type {Row[]} */
  const rows = []
  for (const { where, attack } of all) if (fits(attack)) rows.push(await rowOf(where, attack))
  const lost = rows.filter(({ held }) => !held)
  if (options.json) console.log(JSON.stringify(rows, null, 2))
  else
    console.log(
      [
        ...table(rows),
        '',
        "opened, of all tries; honest: users' knocks that opened; knockd, fwknop: the same of them",
        lost.length === 0
          ? `All ${rows.length} attacks were held off.`
          : `Not held off: ${lost.map(({ name }) => name).join('; ')}`,
      ].join('\n'),
    )
  if (lost.length > 0) process.exitCode = 1
}
