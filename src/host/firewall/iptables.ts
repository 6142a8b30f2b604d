import type { Firewall, Lease, Lock } from '../../gate/leases'
import { CommandFault } from '../commands'
import { reason } from '../fault'
import { FAMILIES, type Family, familyOf, installScript, iptables, LEASES, MAIN, readTable, restore } from './chains'
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
  const add = async (address: string, rule: string[]) => {
    const family = familyOf(address)
    const args = ['-A', LEASES, ...rule]
    // Somebody may have flushed and deleted our chains: once more with new ones.
    await iptables(family, args).catch(async (error) => {
      if (!(await ensureChains(family, warn))) throw error
      await iptables(family, args)
    })
  }
  const drop = async (address: string, rule: string[]) => {
    const family = familyOf(address)
    await iptables(family, ['-D', LEASES, ...rule]).catch(async (error) => {
      // Somebody else may have taken it away: then it is what we wanted. Only this one exit code says so.
      const gone = await iptables(family, ['-C', LEASES, ...rule]).then(
        () => false,
        (cause) => cause instanceof CommandFault && cause.exitCode === 1,
      )
      if (!gone) throw error
    })
  }

  return {
    list: () =>
      inTurn(async () => {
        const leases: Lease[] = []
        const locks: Lock[] = []
        for (const family of FAMILIES) {
          await ensureChains(family, warn)
          for (const line of (await iptables(family, ['-S', LEASES])).split('\n')) {
            const { lease, lock } = readRule(line) ?? {}
            if (lease) leases.push(lease)
            else if (lock) locks.push(lock)
            else if (line.startsWith('-A ')) warn(`${family}: a rule in ${LEASES} is none of ours and is left alone: ${line}`)
          }
        }
        return { leases, locks }
      }),
    open: (lease, replaced) =>
      inTurn(async () => {
        // The new rule first: between the two the door stays open.
        await add(lease.address, leaseRule(lease)).catch(async (error) => {
          // After a time limit nobody knows whether it is there.
          await drop(lease.address, leaseRule(lease)).catch(() => {})
          throw error
        })
        if (replaced) await drop(replaced.address, leaseRule(replaced)).catch((error) => warn(reason(error)))
      }),
    end: (lease) => inTurn(() => drop(lease.address, leaseRule(lease))),
    lock: (lock, replaced) =>
      inTurn(async () => {
        await add(lock.address, lockRule(lock))
        if (replaced) await drop(replaced.address, lockRule(replaced)).catch((error) => warn(reason(error)))
      }),
    unlock: (lock) => inTurn(() => drop(lock.address, lockRule(lock))),
  }
}

/** What leases need is put in place; what hears knocks is the administrator's to install. @returns whether anything was missing */
async function ensureChains(family: Family, warn: (message: string) => void): Promise<boolean> {
  const table = await readTable(family)
  if (table.chains.includes(MAIN) && table.chains.includes(LEASES)) return false
  warn(`${family}: our chains are missing and are made anew, without the log rules: run "knockturn firewall install"`)
  await restore(family, installScript(table, null))
  return true
}
