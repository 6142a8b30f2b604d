import { holderOf, type Listener } from '../../admin/setup/listeners'
import type { Proposal, Wish } from '../../admin/setup/proposal'
import type { There } from '../../admin/setup/there'
import { KEY_ID_RULE } from '../../protocol/key'
import { formatService } from '../../protocol/service'
import { askLine } from '../../system/ask-line'
import { Fault, printable } from '../../system/fault'
import { readId } from '../options'
import { printTable } from '../voice'
import { HOST_RULE, readHost } from './new-key'
import { GUARD_RULE, guardText, PUBLIC_RULE, publicText, readGuard, readPublic, type SetupOptions } from './setup-words'
import { print } from './voice'

/* What a set-up asks on a terminal: little, and Enter takes what is proposed. */

/** How often an answer may be wrong. */
const TRIES = 3
/** Services that are listed: any local user can have one at each port. */
const MAX_SHOWN = 20

/** Asks for what no option has said. @throws {Fault} where nobody answers */
export async function askAll(
  propose: (more: Wish) => Proposal,
  options: SetupOptions,
  { config, keys }: There,
): Promise<Proposal> {
  const host = await hostFirst(propose, options, config !== null)
  const { answers, reasons, listeners } = propose(host)
  printListeners(listeners, reasons)
  const guard =
    options.guard ?? (await ask('What opens by a knock only, all or ports', guardText(answers.guard), readGuard, GUARD_RULE))
  const proposed = propose({ ...host, guard })
  const open =
    guard !== 'all' || options.public
      ? options.public
      : await ask('What stays open to everyone', publicText(proposed.answers.public), readPublic, PUBLIC_RULE)
  const isThere = keys.some(({ isValid }) => isValid)
  const key = options.key || isThere ? options.key : await ask('A name for your key', answers.key, readId, KEY_ID_RULE)
  return propose({ ...host, guard, public: open, key })
}

/** The host may be what nobody can propose. */
async function hostFirst(propose: (more: Wish) => Proposal, { host }: SetupOptions, isSetUp: boolean): Promise<Wish> {
  if (host !== undefined) return { host }
  // Keys are refused under another name than the config has: what is there comes first.
  const proposal = isSetUp ? propose({}).answers.host : propose({ host: '' }).host
  return { host: await ask('The name or address at which clients reach this server', proposal, readHost, HOST_RULE) }
}

function printListeners(listeners: readonly Listener[], reasons: ReadonlyMap<string, string>): void {
  print('What listens here:')
  const rows = listeners.slice(0, MAX_SHOWN).map((one) => {
    const name = formatService(one.service)
    return ['', name, holderOf(one), reasons.get(name) ?? '']
  })
  if (rows.length > 0) printTable(rows)
  if (listeners.length > MAX_SHOWN) print(`  and ${listeners.length - MAX_SHOWN} more: see "ss -ltunp"`)
}

/** Asks until the answer can be read. @param proposal what Enter takes; null: there is none */
async function ask<T>(question: string, proposal: string | null, read: (text: string) => T | null, rule: string): Promise<T> {
  for (let left = TRIES; left > 0; left--) {
    const typed = await line(`${question}${proposal === null ? '' : ` [${printable(proposal)}]`}: `)
    const answer = read(typed === '' ? (proposal ?? '') : typed)
    if (answer !== null) return answer
    print(`expected ${rule}`)
  }
  throw new Fault(`expected ${rule}: nothing was changed`)
}

/** Asks whether to begin. @throws {Fault} where that is not wanted */
export async function askToBegin(): Promise<void> {
  const answer = (await line('Begin? [yes]: ')).toLowerCase()
  if (!['', 'y', 'yes'].includes(answer)) throw new Fault('nothing was changed')
}

/** @throws {Fault} where the terminal's end comes first */
async function line(prompt: string): Promise<string> {
  const answer = await askLine(prompt, process.stdout)
  if (answer === null) throw new Fault('no answer: nothing was changed')
  return answer
}
