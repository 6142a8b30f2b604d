import type { Firewall, Lease, Lock } from '../../gate/leases'
import { CommandFault } from '../commands'
import { reason } from '../fault'
import { FAMILIES, type Family, familyOf, installScript, iptables, isConnected, LEASES, readTable, restore } from './chains'
import { leaseRule, lockRule, readRule } from './rules'

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
  /** Rules that we have put in force or found in force, by what they are known by in the table. */
  const standing = new Map<string, { readonly entry: Lease | Lock; readonly rule: readonly string[] }>()
  /** The log rules as they were when last seen. */
  const taps: Record<Family, readonly string[]> = { iptables: [], ip6tables: [] }

  const add = async (entry: Lease | Lock, rule: string[]) => {
    const family = familyOf(entry.address)
    const args = ['-A', LEASES, ...rule]
    // Somebody may have flushed and deleted our chains: once more with new ones.
    await iptables(family, args).catch(async (error) => {
      if ((await mendFamily(family)) === 0) throw error
      await iptables(family, args)
    })
    standing.set(nameOf(entry), { entry, rule })
  }
  const drop = async (entry: Lease | Lock, rule: string[]) => {
    const family = familyOf(entry.address)
    await iptables(family, ['-D', LEASES, ...rule]).catch(async (error) => {
      // Somebody else may have taken it away: then it is what we wanted. Only this one exit code says so.
      const gone = await iptables(family, ['-C', LEASES, ...rule]).then(
        () => false,
        (cause) => cause instanceof CommandFault && cause.exitCode === 1,
      )
      if (!gone) throw error
    })
    standing.delete(nameOf(entry))
  }

  /** Puts our chains, the log rules and the standing rules back, all in one step, where any of them is missing. @returns how many rules */
  const mendFamily = async (family: Family): Promise<number> => {
    const table = await readTable(family)
    const there = new Set(table.leases.map(readRule).map((read) => read && nameOf(read.lease ?? read.lock)))
    const lost = [...standing].filter(([name, { entry }]) => familyOf(entry.address) === family && !there.has(name))
    // The kernel has forgotten who has had the one connection: another one would be one too many.
    const rules = lost.filter(([, { entry }]) => !('once' in entry && entry.once)).map(([, { rule }]) => rule)
    const deaf = table.taps.length === 0 ? taps[family] : []
    if (isConnected(table) && rules.length + deaf.length === 0) {
      taps[family] = table.taps
      return 0
    }
    const more = [...deaf, ...rules.map((rule) => ['-A', LEASES, ...rule].join(' '))]
    await restore(family, installScript(table, null, more))
    for (const [name, { entry }] of lost) if ('once' in entry && entry.once) standing.delete(name)
    return more.length + 1
  }

  return {
    list: () =>
      inTurn(async () => {
        const leases: Lease[] = []
        const locks: Lock[] = []
        for (const family of FAMILIES) {
          if ((await mendFamily(family)) > 0)
            warn(`${family}: our chains are missing and are made, without the log rules: run "knockturn firewall install"`)
          for (const line of (await readTable(family)).leases) {
            const { lease, lock } = readRule(line) ?? {}
            if (lease) leases.push(lease)
            else if (lock) locks.push(lock)
            else warn(`${family}: a rule in ${LEASES} is none of ours and is left alone: ${line}`)
          }
        }
        for (const entry of leases) standing.set(nameOf(entry), { entry, rule: leaseRule(entry) })
        for (const entry of locks) standing.set(nameOf(entry), { entry, rule: lockRule(entry) })
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
        let mended = 0
        for (const family of FAMILIES) mended += await mendFamily(family)
        return mended
      }),
  }
}

/** An extended lease keeps its id and gets another end. */
const nameOf = (entry: Lease | Lock): string => `${'port' in entry ? 'lease' : 'lock'} ${entry.id} ${entry.until}`
