import { readFile, stat, statfs } from 'node:fs/promises'
import { release } from 'node:os'
import { dirname, join } from 'node:path'
import { Finding } from '../../daemon/checks/finding'
import { isVolatile } from '../../daemon/ledger/held-file'
import type { Check } from '../../system/check'
import { errorCode, reason } from '../../system/fault'
import { exists } from '../../system/files'
import { programFolder } from '../own-script'
import { checkMachine } from '../setup/machine'
import { trialState } from '../setup/trial'

/* What of the machine itself keeps a server from its work. */

/** Versions of Node that are tested. */
const TESTED = [20, 22, 24, 26]
/** One that only distributions mend. */
const OLD = 20
/** Parts of the table of connections that are in use: from the first on it will be felt, from the second on it is full any moment. */
const BUSY = 0.75
const FULL = 0.95
/** Bytes that are left on the ledger's disk: it is written anew beside the old one, of a mebibyte or more each time. */
const LITTLE = 16 * 1024 * 1024
const SOME = 256 * 1024 * 1024

/**
 * Checks the machine.
 * @param ledger the path of the ledger; null where the config does not say it
 * @param isKernelWell whether the kernel has shown that it can do all that is needed
 */
export async function checkThisMachine(ledger: string | null, isKernelWell: boolean): Promise<readonly Check[]> {
  return [
    ...judgeNode(process.version, process.execPath),
    ...(await checkPrograms()),
    ...(await checkModules(isKernelWell)),
    ...(await checkConntrack()),
    ...(ledger === null ? [] : await checkDisk(ledger)),
    ...(await checkTrial()),
  ]
}

/** Judges a Node. @param path of its executable */
export function judgeNode(version: string, path: string): readonly Check[] {
  const found = new Finding('node')
  const major = Number(/^v(\d+)\./.exec(version)?.[1])
  const is = `Node ${version} (${path})`
  if (!TESTED.includes(major))
    found.felt(`${is} is none of those that are tested: ${TESTED.join(', ')}`, 'install one of these for all users')
  else if (major === OLD)
    found.felt(
      `${is}: the Node project fixes nothing in it any more`,
      'keep it only if your distribution fixes it, as Debian 13 does; or install a newer one for all users',
    )
  return found.end(is)
}

/** Whether the programs can be run by the daemon's user, and changed by nobody but root: units run them as root. */
async function checkPrograms(): Promise<readonly Check[]> {
  const found = new Finding('installation')
  const root = programFolder()
  await found.attempt(() => checkMachine(root))
  return found.end(`${root}: only root can change the programs, and every user can run them`)
}

async function checkModules(isKernelWell: boolean): Promise<readonly Check[]> {
  const folder = `/lib/modules/${release()}`
  const locked = (await readFile('/proc/sys/kernel/modules_disabled', 'utf8').catch(() => '')).trim()
  return judgeModules(folder, await exists(folder), locked === '1', isKernelWell)
}

/**
 * Judges whether the kernel can load modules. Where it lacks none, it need not.
 * @param folder where those of the running kernel lie
 */
export function judgeModules(folder: string, isThere: boolean, isLocked: boolean, isKernelWell: boolean): readonly Check[] {
  const found = new Finding('modules')
  const now = isThere && !isLocked ? 'the kernel can load them on demand' : 'the kernel can load none, and lacks none'
  if (isKernelWell) return found.end(`${folder}: ${now}`)
  if (isLocked)
    found.felt(
      'kernel.modules_disabled is 1: what is not loaded by now can be loaded no more',
      'have /etc/modules-load.d load what "kernel" misses, and restart the machine',
    )
  if (!isThere)
    found.felt(
      `${folder} is not there: the kernel was upgraded, or this is a container, whose host has to load modules`,
      'restart the machine after an upgrade of the kernel; for a container, load the modules on its host',
    )
  return found.end(`${folder}: ${now}`)
}

async function checkConntrack(): Promise<readonly Check[]> {
  const read = (name: string) =>
    readFile(`/proc/sys/net/netfilter/nf_conntrack_${name}`, 'utf8').then(
      (text) => Number(text),
      () => null,
    )
  return judgeConntrack(await read('count'), await read('max'))
}

/** Judges how full the table of connections is. @param count of connections in it; null, as `max`: that can't be read */
export function judgeConntrack(count: number | null, max: number | null): readonly Check[] {
  const found = new Finding('conntrack')
  if (count === null || max === null)
    found.unknown('net.netfilter.nf_conntrack_count cannot be read: the kernel tracks no connections, or not in this network')
  // A limit of 0 is none.
  else if (max > 0 && count >= BUSY * max) {
    const is = `${count} of ${max} connections (net.netfilter.nf_conntrack_max) are in the table`
    const remedy = `run "sysctl -w net.netfilter.nf_conntrack_max=${4 * max}", and keep it in /etc/sysctl.d`
    if (count >= FULL * max) found.wrong(`${is}: the kernel drops new ones, knocks among them`, remedy)
    else found.felt(is, remedy)
  }
  return found.end(`${count} of ${max} connections are in the table`)
}

async function checkDisk(ledger: string): Promise<readonly Check[]> {
  const folder = dirname(ledger)
  const found = new Finding('disk')
  try {
    const { bavail, bsize, files, ffree } = await statfs(folder)
    const size = await stat(ledger).then(
      (stats) => stats.size,
      () => 0,
    )
    const isInMemory = await isVolatile(folder)
    return judgeDisk(folder, { room: bavail * bsize, names: files === 0 ? null : ffree, isInMemory, size })
  } catch (error) {
    if (errorCode(error) === undefined) throw error
    found.unknown(`${folder}: cannot be looked at: ${reason(error)}`)
    return found.end('')
  }
}

/** What is known of the disk of a ledger: bytes that are left, names that are left (null: without a limit), and the ledger's size in bytes. */
export interface DiskFacts {
  readonly room: number
  readonly names: number | null
  readonly isInMemory: boolean
  readonly size: number
}

/** Judges the disk of a ledger. */
export function judgeDisk(folder: string, { room, names, isInMemory, size }: DiskFacts): readonly Check[] {
  const found = new Finding('disk')
  if (isInMemory)
    found.wrong(
      `${folder} lies in memory (tmpfs): the ledger is lost when the machine restarts, and nothing opens for a minute then`,
      'set [ledger] path to a file on a disk, and restart the daemon',
    )
  const needed = LITTLE + size
  const left = `${folder}: ${megabytes(room)} are left`
  const remedy = `make room: "du -xh --max-depth=2 / | sort -h | tail" shows what takes it`
  if (room < needed)
    found.wrong(`${left}, ${megabytes(needed)} are needed: knocks that cannot be written down open nothing`, remedy)
  else if (room < SOME + size) found.felt(left, remedy)
  if (names === 0)
    found.wrong(
      `${folder}: no inode is left: the ledger cannot be written anew`,
      'delete files: "df -i" shows which disk is full',
    )
  return found.end(`${left}, and it is no memory`)
}

const megabytes = (bytes: number): string => `${Math.floor(bytes / 1024 / 1024)} MiB`

/** Whether a trial is on: then all that is here may be gone soon. */
async function checkTrial(): Promise<readonly Check[]> {
  const found = new Finding('trial')
  const trial = await found.look(trialState)
  if (trial !== null && trial.kind !== 'none') {
    const left = trial.left === undefined ? '' : `, ${trial.left} s are left`
    const remedy =
      trial.kind === 'trial'
        ? 'run "knockturn setup --confirm" to keep it, or "knockturn setup --revert"'
        : `run "${join(programFolder(), 'bin/knockturn-trial')} settle"`
    found.felt(`a set-up is tried and not permanent (${trial.kind}${left})`, remedy)
  }
  return found.end('none is on')
}
