import { mkdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { errorCode, Fault, reason } from '../../system/fault'
import { changeText, readOurs } from '../../system/files'

/*
 * What has ssh knock by itself: a block in a file of our own, which the user's ssh_config includes in its first line.
 *
 * ssh takes the first value that it finds. At the end of the file, our block would lose to a ProxyCommand of `Host *`. In front of everything
 * else, it would end the part that holds for all hosts. An Include does neither: what stands behind it goes on where it was.
 */

/** Longest ssh_config in bytes. */
const MAX_CONFIG = 1024 * 1024
/** Our file, as it lies beside the user's config, and as an Include names it. */
const OURS = 'knockturn.conf'
const INCLUDE = `# Hosts at which ssh knocks first, by "knockclient add". This stands in front: ssh takes the first value.\nInclude ${OURS}\n`
const HEADER = '# Hosts at which ssh knocks first, by "knockclient add". It is yours to change.\n'
/** What connects to a host otherwise. */
const PROXY = /^\s*proxy(command|jump)\b/i

/** A host for which ssh is to knock. */
export interface SshHost {
  readonly profile: string
  readonly host: string
  /** null: ssh's own. */
  readonly port: number | null
  /** What runs knockclient: a word or a path, as a shell understands it. */
  readonly program: string
}

/** What `ssh` reads, as far as it is there. */
export interface SshFiles {
  readonly config: string | null
  readonly ours: string | null
}

/** What is to be done for a host. */
export interface SshStep {
  /** The block that has ssh knock. */
  readonly block: string
  /** A block of the user's own that names the host; null: there is none. It is never touched. */
  readonly theirs: string | null
  /** Both files as they are to be, null where one is right as it is; `kept`: ssh knocks already; `theirs`: theirs would be overruled. */
  readonly change: SshFiles | 'kept' | 'theirs'
}

/** Has ssh connect to a host by a knock. The profile brings key and host, whatever HostName says. */
export function hostBlock({ profile, host, port, program }: SshHost): string {
  const lines = [
    `Host ${[...new Set([profile, host])].join(' ')}`,
    ...(profile === host ? [] : [`  HostName ${host}`]),
    ...(port === null ? [] : [`  Port ${port}`]),
    `  ProxyCommand ${program} connect ${profile} %p`,
  ]
  return `${lines.join('\n')}\n`
}

/** The port of ssh among those that a key opens: its own, or the only one there is; null: nothing tells. */
export function sshPort(ports: readonly number[] | null): number | null {
  if (ports === null || ports.includes(22)) return 22
  return ports.length === 1 ? ports[0] : null
}

/** Decides what is to be done, so that `ssh HOST` knocks and nothing of the user's is changed. */
export function stepForSsh(target: SshHost, { config, ours }: SshFiles): SshStep {
  const block = hostBlock(target)
  const names = [target.profile, target.host]
  const [inOurs, theirs] = [findBlock(ours ?? '', names), findBlock(config ?? '', names)]
  const isIncluded = includesOurs(config ?? '')
  if (theirs?.split('\n').some((line) => PROXY.test(line)))
    return { block, theirs, change: theirs.includes('knockclient') ? 'kept' : 'theirs' }
  if (inOurs !== null && isIncluded) return { block, theirs, change: 'kept' }
  const change = {
    ours: inOurs === null ? `${(ours ?? HEADER).trimEnd()}\n\n${block}` : null,
    config: isIncluded ? null : `${INCLUDE}${config ? `\n${config}` : ''}`,
  }
  return { block, theirs, change }
}

/** The first block that names one of these hosts by its whole name, as it stands there; null: none does. */
function findBlock(text: string, names: readonly string[]): string | null {
  const lines = text.split('\n')
  const wanted = names.map((name) => name.toLowerCase())
  const from = lines.findIndex((line) => patternsOf(line)?.some((pattern) => wanted.includes(pattern.toLowerCase())))
  if (from < 0) return null
  const next = lines.findIndex((line, at) => at > from && HEADING.test(line))
  return lines
    .slice(from, next < 0 ? lines.length : next)
    .join('\n')
    .trimEnd()
}

/** What begins a block. */
const HEADING = /^\s*(host|match)\b/i

/** The patterns of a line `Host`, in quotes or not; null: it is another line. */
function patternsOf(line: string): string[] | null {
  const [, list] = /^\s*host(?:\s*=\s*|\s+)(.*)$/i.exec(line) ?? []
  return list === undefined ? null : [...list.matchAll(/"([^"]*)"|([^\s"]+)/g)].map(([, inQuotes, plain]) => inQuotes ?? plain)
}

/** Whether a config includes our file for all hosts: in front of its first block. */
function includesOurs(config: string): boolean {
  const lines = config.split('\n')
  const end = lines.findIndex((line) => HEADING.test(line))
  return lines
    .slice(0, end < 0 ? lines.length : end)
    .some((line) => /^\s*include\b/i.test(line) && line.split(/[\s="/]+/).includes(OURS))
}

/** Where ssh's files lie. @param home the user's home folder */
export function sshPaths(home: string): { config: string; ours: string } {
  return { config: join(home, '.ssh', 'config'), ours: join(home, '.ssh', OURS) }
}

/** Reads what ssh reads. @throws {Fault} where it can't be read, or is not the user's alone */
export async function readSsh(home: string): Promise<SshFiles> {
  const { config, ours } = sshPaths(home)
  return { config: await readOurs(config, MAX_CONFIG), ours: await readOurs(ours, MAX_CONFIG) }
}

/**
 * Writes what is to be done for a host. Our file comes first: an Include of one that is not there is no fault of ssh's, but one in vain.
 * @returns the paths that were written
 * @throws {Fault}
 */
export async function writeSsh(home: string, target: SshHost): Promise<string[]> {
  const paths = sshPaths(home)
  await mkdir(join(home, '.ssh'), { mode: 0o700 }).catch((error) => {
    if (errorCode(error) !== 'EEXIST') throw new Fault(`${join(home, '.ssh')}: cannot be made: ${reason(error)}`)
  })
  const written: string[] = []
  for (const name of ['ours', 'config'] as const) {
    // Where it is a link, such as into a folder of dotfiles, it stays one.
    await changeText(await realpath(paths[name]).catch(() => paths[name]), async () => {
      // Another run may have been quicker.
      const { change } = stepForSsh(target, await readSsh(home))
      const text = typeof change === 'string' ? null : change[name]
      if (text !== null) written.push(paths[name])
      return text
    })
  }
  return written
}
