import { DEFAULT_POOL, parsePool } from '../protocol/pool'
import { ownPrivileges } from '../system/capabilities'
import type { Check } from '../system/check'
import { findCommand } from '../system/commands'
import { backendOf } from './backends/all'
import { guardOfNow } from './bridges'
import { Finding } from './checks/finding'
import type { Config } from './config'
import { tapRulesOf } from './tap-rules'
import { trySetpriv } from './taps/child'
import { openTaps, tapCommands } from './taps/open'

/**
 * Tries what a daemon will do to hear and to open, by its own means, and leaves nothing behind.
 * @param isHeld whether a daemon may be running, which has what it hears with
 */
export async function rehearse(config: Config, isHeld: boolean): Promise<readonly Check[]> {
  const { taps, datagram, firewall } = config
  const programs = new Finding('programs')
  const rules = new Finding('kernel')
  const source = new Finding('tap source')
  /** Whether something could be done; else the fault is kept. */
  const works = async (found: Finding, act: () => Promise<void>) => (await found.attempt(() => act().then(() => true))) ?? false
  /** Whether commands are installed. */
  const have = async (commands: readonly string[]) => {
    const there = []
    for (const command of commands) there.push(await works(programs, () => findCommand(command)))
    return there.every((one) => one)
  }
  const backend = backendOf(config)
  const isCapture = taps.source === 'nflog'
  const { missing: lacking } = await ownPrivileges({ firewall: backend.isReal, capture: isCapture })
  /** Whether we may try it; else it is noted. */
  const may = (found: Finding, what: string) => {
    if (lacking.length > 0)
      found.unknown(`not checked: ${what}: this requires ${lacking.map((name) => `cap_${name}`).join()}`, 'run this as root')
    return lacking.length === 0
  }

  await have(['flock'])
  const mayTry = () => !backend.isReal || may(rules, "whether the firewall accepts the daemon's rules")
  const hasBackend = await have(backend.commands)
  if (!hasBackend) rules.unknown("not checked: whether the firewall accepts the daemon's rules: a program is missing")
  else if (mayTry())
    await works(rules, async () => {
      const heard = tapRulesOf([{ key: { pool: parsePool(DEFAULT_POOL) } }], config)
      const wanted = { guard: guardOfNow(firewall.guard), taps: taps.source === 'stdin' ? null : heard }
      rules.fault(...(await backend.rehearse(wanted, (note) => rules.felt(note))))
    })

  const [, program] = tapCommands(taps)
  const hearing = program ?? 'the daemon'
  if (program !== undefined && (await have(tapCommands(taps)))) {
    const isWell = await works(source, () => trySetpriv(program, !isCapture))
    if (isWell && !isHeld && (!isCapture || may(source, `whether ${program} can read NFLOG group ${taps.group}`)))
      await works(source, async () => {
        const opened = openTaps(taps, () => {}, datagram.ports)
        const nothing = () => {}
        await opened.start(nothing, nothing)
        await opened.stop()
      })
  }
  const of = isCapture ? `NFLOG group ${taps.group}` : taps.source
  return [
    ...programs.end(`those of backend "${firewall.backend}" and source "${taps.source}" are installed`),
    ...rules.end(
      backend.isReal
        ? `it accepts the rules of backend "${firewall.backend}"`
        : `backend "${firewall.backend}" has no rules here`,
    ),
    ...source.end(isHeld ? `${of}: the running daemon has it` : `${of}: ${hearing} can read it`),
  ]
}
