import { readFile, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { backendOf } from '../daemon/backends/all'
import type { BootFile } from '../daemon/backends/backend'
import { guardOfNow } from '../daemon/bridges'
import { ALL_SAVED } from '../daemon/saved-guard'
import { ownPrivileges } from '../system/capabilities'
import { errorCode, Fault, reason } from '../system/fault'
import { changeText } from '../system/files'
import { wholeConfig } from './config'
import { tapRules } from './tap-rules'

/**
 * Composes what bin/knockturn-guard loads at boot, without Node: the guard with the log rules, by the config of now. Who may have the kernel try
 * them does.
 * @param file the daemon's config; the files are for its folder
 * @param warn told why a key or the passcodes are left out, and what the kernel can't do and we can do without
 * @throws {Fault} where there is no guard, config or keyring can't be read, or the kernel refuses the guard
 */
export async function composeGuard(file: string, warn: (message: string) => void): Promise<readonly BootFile[]> {
  const config = await wholeConfig(file)
  if (config.firewall.guard.ports.length === 0)
    throw new Fault(`${file}: no guard is set, so there is nothing to load at boot`, {
      hint: `set guard in [firewall]; or, to load none any more, run "systemctl disable knockturn-guard" and delete ${join(dirname(file), 'guard.*')}`,
    })
  const backend = backendOf(config)
  const rules = { guard: guardOfNow(config.firewall.guard), taps: await tapRules(config, warn) }
  const files = await backend.atBoot(rules, warn)
  if (files.length === 0)
    throw new Fault(`${file}: backend "${config.firewall.backend}" has no guard to load at boot`, {
      hint: 'set backend = "nftables" or "iptables" in [firewall]',
    })
  const [fault] = (await mayTry()) ? await backend.rehearse(rules, warn) : []
  if (fault) throw fault
  return files.map(({ path, text }) => ({ path: join(dirname(file), path), text }))
}

/**
 * Takes apart what `guard save --print` has printed: a line with each file's path, and the file. The keyring's owner has printed it, and root
 * writes it: only the names of a saved guard are believed, and of no other folder.
 * @param folder that of the config
 */
export function printedFiles(printed: string, folder: string): BootFile[] {
  const [, ...parts] = printed.split(/^# (.+)\n/m)
  return parts.flatMap((path, i) => {
    const name = ALL_SAVED.find((one) => one === basename(path))
    return i % 2 === 0 && name ? { path: join(folder, name), text: parts[i + 1] ?? '' } : []
  })
}

/** Finds which files of a guard are not there as they should be, and whether anything is there. */
export async function notSaved(
  files: readonly BootFile[],
): Promise<readonly { readonly path: string; readonly isThere: boolean }[]> {
  const found = await Promise.all(
    files.map(async ({ path, text }) => ({ path, wanted: text, is: await readFile(path, 'utf8').catch(() => null) })),
  )
  return found.filter(({ wanted, is }) => is !== wanted).map(({ path, is }) => ({ path, isThere: is !== null }))
}

/** Whether we may have the kernel try rules. */
export async function mayTry(): Promise<boolean> {
  return (await ownPrivileges({ firewall: true, capture: false })).missing.length === 0
}

/**
 * Writes what {@link composeGuard} gives, each file in one step; what another backend had in its folder goes.
 * @param folder that of the config
 * @throws {Fault} where a file can't be written
 */
export async function writeGuard(folder: string, files: readonly BootFile[]): Promise<void> {
  for (const { path, text } of files) await changeText(path, async () => text)
  const paths = files.map(({ path }) => path)
  // Last: two guards shut as well as one, and none does not.
  const old = ALL_SAVED.map((name) => join(folder, name)).filter((path) => !paths.includes(path))
  for (const path of old) await remove(path)
}

async function remove(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw new Fault(`${path}: cannot be deleted: ${reason(error)}`)
  }
}
