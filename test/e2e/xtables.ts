import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

/** Where iptables has its matches and targets. */
const XTABLES = readdirSync('/usr/lib')
  .map((name) => join('/usr/lib', name, 'xtables'))
  .find((path) => existsSync(path)) as string

/**
 * Programs of iptables that can't make rules with a match or target, as with a kernel that has none.
 * @param folder for what they have in the place of the system's
 * @returns name → script
 */
export function xtablesWithout(name: string, folder: string): Record<string, string> {
  if (!existsSync(folder)) {
    mkdirSync(folder)
    for (const file of readdirSync(XTABLES)) if (file !== `libxt_${name}.so`) symlinkSync(join(XTABLES, file), join(folder, file))
  }
  const real = (program: string) => `XTABLES_LIBDIR=${folder} exec "$(PATH=/usr/sbin:/sbin command -v ${program})" "$@"`
  return Object.fromEntries(['iptables-restore', 'ip6tables-restore'].map((program) => [program, real(program)]))
}
