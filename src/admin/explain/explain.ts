import { dirname } from 'node:path'
import { whyAhead } from '../../daemon/ahead'
import { backendOf } from '../../daemon/backends/all'
import { type Config, MAX_CONFIG } from '../../daemon/config'
import { onceRefused } from '../../daemon/fleet/config'
import { familyOf, IP_NAMES, interfaceAddresses } from '../../daemon/iptables/table'
import { MAX_LEDGER, tooLarge } from '../../daemon/ledger/held-file'
import { readLedger } from '../../daemon/ledger/record'
import { loadServerKeys } from '../../daemon/server-keys'
import { Ledger } from '../../gate/ledger'
import type { GrantRule } from '../../gate/policy'
import type { ServerKey } from '../../gate/server-key'
import { MAX_KEY_FILE } from '../../keys/key-file'
import { findKey, keyPath } from '../../keys/keyring'
import { canonicalAddress } from '../../protocol/address'
import type { Service } from '../../protocol/service'
import { type Fault, inOneLine, reason } from '../../system/fault'
import { asOwner, checkOwned, checkSecret, readHead, readText } from '../../system/files'
import { formatDuration } from '../../system/time'
import { lineAt } from '../../system/toml'
import { lookAtDaemon } from '../alive'
import { wholeConfig } from '../config'
import type { Asked, Case, Explanation, Places, Row } from './case'
import { weigh, wouldOf } from './weigh'

/**
 * Explains what would become of a knock, and changes nothing: every rule in the order in which the daemon asks it, and whether packets come through
 * in the end.
 * @param file the daemon's config
 * @param id of the key
 * @param now Unix milliseconds
 * @throws {Fault} where config, keyring or key can't be read, or there is no such key
 */
export async function explain(file: string, id: string, asked: Asked, now: number): Promise<Explanation> {
  const config = await wholeConfig(file)
  const { key, refused, text } = await keyOf(config, id)
  const path = keyPath(config.keys, id)
  if (!key) {
    const says = refused ? inOneLine(refused).replace(`${path}: `, '') : 'the daemon does not use it'
    return {
      would: false,
      seconds: asked.seconds,
      grant: null,
      rows: [{ rule: 'key', verdict: 'refuses', where: path, says, refusal: null }],
    }
  }
  const backend = backendOf(config)
  const one: Case = {
    asked,
    key,
    neverLock: config.neverLock,
    own: interfaceAddresses().flatMap(({ address }) => canonicalAddress(address) ?? []),
    daemon: await daemonOf(config, now),
    floor: await floorOf(config, key, now),
    countsConnections: config.firewall.backend !== 'command',
    onceRefused: onceRefused(config.ledger.fleet),
    most: { all: backend.maxLeases, key: config.firewall.leasesPerKey },
    places: placesOf(path, text, file, await readText(file, MAX_CONFIG, checkOwned), config.ledger.path),
    wall: now,
  }
  const explanation = weigh(one)
  const { grant } = explanation
  if (asked.action !== 'open' || !grant) return explanation
  const rows = [...explanation.rows, ...(await throughRows(config, grant.services, grant.address))]
  const would = wouldOf(rows)
  return { ...explanation, would, grant: would === false ? null : grant, rows }
}

/** A key as the daemon would take it up. @returns why it does not, where that is so; and the text of its file */
async function keyOf(
  config: Config,
  id: string,
): Promise<{ key: ServerKey | undefined; refused: Fault | undefined; text: string }> {
  const path = keyPath(config.keys, id)
  return asOwner(config.keys, async () => {
    await findKey(config.keys, id)
    const { keys, faults } = await loadServerKeys(config.keys, config.server, { datagrams: config.datagram.ports })
    return {
      key: keys.find((key) => key.id === id),
      refused: faults.find(({ message }) => message.startsWith(`${path}:`)),
      text: await readText(path, MAX_KEY_FILE, checkSecret),
    }
  })
}

/** Where rules stand. The texts are looked at for line numbers only: a key's secret is in one of them. */
function placesOf(keyFile: string, keyText: string, configFile: string, configText: string, ledger: string): Places {
  const at = (file: string, text: string, ...tables: readonly string[][]) => {
    const line = tables.map((keys) => lineAt(text, keys)).find((found) => found !== null)
    return line === undefined ? file : `${file}:${line}`
  }
  return {
    ledger,
    of(rule) {
      if (Object.hasOwn(PLACELESS, rule)) return null
      if (rule === 'never_lock') return at(configFile, configText, [rule])
      if (rule === 'leases_per_key') return at(configFile, configText, ['firewall', rule], ['firewall'])
      if (rule === 'revoked' || rule === 'expires') return at(keyFile, keyText, [rule])
      // Where it is not written, its default holds, and its place is the table.
      return at(keyFile, keyText, ['grant', rule], ['grant'])
    },
  }
}

/** Rules that stand in no file. */
const PLACELESS: Readonly<Partial<Record<GrantRule, true>>> = {
  nobody: true,
  loopback: true,
  server_address: true,
  passcode: true,
}

/** The state of a daemon that is alive; else what is known of it. A state may be fresh, and its daemon has just died. */
async function daemonOf(config: Config, now: number): Promise<Case['daemon']> {
  const { life, state, written, faults } = await lookAtDaemon(config, now)
  if (life === 'alive' && state) return state
  if (life === 'dead') return { dead: 'no daemon is running: nothing opens' }
  const [fault] = faults
  if (fault) return { unknown: inOneLine(fault) }
  const since = written === null ? '' : ` for ${formatDuration(Math.round(Math.abs(now - written) / 1000))}`
  return { unknown: `a daemon is running, and has said nothing of itself${since}: if it hangs, nothing opens` }
}

/** Why the ledger has the key open nothing yet. It is only asked: nothing is claimed. */
async function floorOf(
  { ledger: { path }, skew }: Config,
  key: ServerKey,
  now: number,
): Promise<string | null | { unknown: string }> {
  try {
    // Its owner could have put a pipe or a device in its place, which have no end.
    const { bytes, stats } = await asOwner(dirname(path), () => readHead(path, MAX_LEDGER))
    if (stats.size > MAX_LEDGER) throw tooLarge(path, stats.size)
    const { state, records } = readLedger(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
    if (state === 'damaged') return { unknown: 'the ledger is damaged' }
    return whyAhead(new Ledger(records, { append: () => Promise.reject() }, skew), key, now) ?? null
  } catch (error) {
    return { unknown: `the ledger cannot be read: ${reason(error)}` }
  }
}

/** Whether packets come through to what a lease opens; and whether they do without one, too. */
async function throughRows(config: Config, services: readonly Service[], address: string): Promise<Row[]> {
  const backend = backendOf(config)
  if (!backend.isReal) return []
  const { open, shut, unknown } = await backend.strangers(services, config.firewall.guard)
  const of = (verdict: Row['verdict'], says: string): Row => ({ rule: 'firewall', verdict, where: null, says, refusal: null })
  const name = IP_NAMES[familyOf(address)]
  // What keeps out packets of the other family alone does not concern this knock.
  const concerns = (message: string) => message.split(': ')[0].includes(name)
  const rows = [
    ...shut.map((fault) => of(concerns(fault.message) ? 'refuses' : 'note', inOneLine(fault))),
    ...open.map((fault) => of('note', inOneLine(fault))),
    ...unknown.map((line) => of('note', line)),
  ]
  return rows.length > 0 ? rows : [of('met', 'nothing keeps out what the lease lets in, and strangers are kept out')]
}
