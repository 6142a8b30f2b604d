import type { Firewall, Lease, Lock } from '../../gate/leases'
import { CommandFault } from '../commands'
import { reason } from '../fault'
import { FAMILIES, type Family, familyOf, installScript, iptables, isConnected, LEASES, readTable, restore } from './chains'
import { leaseRule, lockRule, readRule, ruleName } from './rules'

/**
 * Leases as rules of iptables and ip6tables. Changes are made one after the other, so that no two of them meet on one rule.
 * @param warn told what an administrator should know
 */
export function iptablesFirewall(warn: (message: string) => void): Firewall {
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(change: () => Promise<T>): Promise<T> => {
    const next = last.then(change, change)
    last = next
    return next
  }
  /** Rules that we have put in force or found in force, by what they say in the table. */
  const standing = new Map<string, { readonly entry: Lease | Lock; readonly rule: readonly string[] }>()
  /** The log rules as they were when last seen. What is taken from among them is the administrator's doing; all of them at once is a flush. */
  const taps: Record<Family, readonly string[]> = { iptables: [], ip6tables: [] }
  /** Whether a change came upon missing chains and put them back, which is to be told at the next look. */
  let hasMended = false

  const add = async (entry: Lease | Lock, rule: readonly string[]) => {
    const family = familyOf(entry.address)
    const args = ['-A', LEASES, ...rule]
    // Somebody may have flushed and deleted our chains: once more with new ones.
    await iptables(family, args).catch(async (error) => {
      if (!(await mendFamily(family))) throw error
      hasMended = true
      await iptables(family, args)
    })
    standing.set(ruleName(rule), { entry, rule })
  }
  const drop = async (entry: Lease | Lock, rule: readonly string[]) => {
    const family = familyOf(entry.address)
    // First of all, so that it is swept at the next look at the latest, whatever happens now.
    standing.delete(ruleName(rule))
    await iptables(family, ['-D', LEASES, ...rule]).catch(async (error) => {
      // Somebody else may have taken it away: then it is what we wanted. Only this one exit code says so.
      const gone = await iptables(family, ['-C', LEASES, ...rule]).then(
        () => false,
        (cause) => cause instanceof CommandFault && cause.exitCode === 1,
      )
      if (!gone) throw error
    })
  }

  /**
   * Makes a family's table what it should be, in one step: our chains, the log rules and the standing rules are put back, and rules of ours
   * that should not be there (a table saved earlier, a change of which nobody knew how it ended) are swept.
   * @returns whether anything had to be done
   */
  const mendFamily = async (family: Family): Promise<boolean> => {
    const table = await readTable(family)
    const there = table.leases.filter(readRule).map((line) => ({ line, name: ruleName(line.replaceAll('"', '').split(' ')) }))
    const isLast = ({ name }: { name: string }, at: number) => !there.slice(at + 1).some((other) => other.name === name)
    const stray = there.filter((rule, at) => !standing.has(rule.name) || !isLast(rule, at))
    const names = new Set(there.map(({ name }) => name))
    const lost = [...standing].filter(([name, { entry }]) => familyOf(entry.address) === family && !names.has(name))
    // The kernel has forgotten who has had the one connection: another one would be one too many.
    const [once, others] = [lost.filter(isOnce), lost.filter((one) => !isOnce(one))]
    for (const [name] of once) standing.delete(name)
    const more = [
      ...(table.taps.length === 0 ? taps[family] : []),
      ...others.map(([, { rule }]) => ['-A', LEASES, ...rule].join(' ')),
      ...stray.map(({ line }) => line.replace('-A', '-D')),
    ]
    if (table.taps.length > 0) taps[family] = table.taps
    if (isConnected(table) && more.length === 0) return false
    await restore(family, installScript(table, null, more))
    return true
  }

  return {
    list: () =>
      inTurn(async () => {
        const leases: Lease[] = []
        const locks: Lock[] = []
        for (const family of FAMILIES) {
          const table = await readTable(family)
          for (const line of table.leases) {
            const { lease, lock } = readRule(line) ?? {}
            if (lease) leases.push(lease)
            else if (lock) locks.push(lock)
            else warn(`${family}: a rule in ${LEASES} is none of ours and is left alone: ${line}`)
          }
          for (const entry of leases) standing.set(ruleName(leaseRule(entry)), { entry, rule: leaseRule(entry) })
          for (const entry of locks) standing.set(ruleName(lockRule(entry)), { entry, rule: lockRule(entry) })
          const isDeaf = table.taps.length === 0
          if (await mendFamily(family))
            warn(
              `${family}: our chains were not in force, and are now${isDeaf ? ', without the log rules: run "knockturn firewall install"' : ''}`,
            )
        }
        return { leases, locks }
      }),
    open: (lease, replaced) =>
      inTurn(async () => {
        // The new rule first: between the two the door stays open.
        await add(lease, leaseRule(lease)).catch(async (error) => {
          // After a time limit nobody knows whether it is there.
          await drop(lease, leaseRule(lease)).catch(() => {})
          throw error
        })
        if (replaced) await drop(replaced, leaseRule(replaced)).catch((error) => warn(reason(error)))
      }),
    end: (lease) => inTurn(() => drop(lease, leaseRule(lease))),
    lock: (lock, replaced) =>
      inTurn(async () => {
        await add(lock, lockRule(lock))
        if (replaced) await drop(replaced, lockRule(replaced)).catch((error) => warn(reason(error)))
      }),
    unlock: (lock) => inTurn(() => drop(lock, lockRule(lock))),
    mend: () =>
      inTurn(async () => {
        const looks = await Promise.allSettled(FAMILIES.map(mendFamily))
        const mended = hasMended || looks.some((look) => look.status === 'fulfilled' && look.value)
        hasMended = false
        // One family that fails is no reason to keep quiet about the other.
        const failure = looks.find((look) => look.status === 'rejected')
        if (failure) warn(reason(failure.reason))
        return mended
      }),
  }
}

const isOnce = ([, { entry }]: [string, { readonly entry: Lease | Lock }]): boolean => 'once' in entry && entry.once
