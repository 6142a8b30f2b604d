import { existsSync } from 'node:fs'
import { realpath, unlink } from 'node:fs/promises'
import { formatKeyFile, hintOf, type KeyFile } from '../../keys/key-file'
import { clientKeys, keyPath, loadKeyFile, makeRoom } from '../../keys/keyring'
import { KEY_ID } from '../../protocol/key'
import { Fault, UsageFault } from '../../system/fault'
import { changeText, readBytes, writeNew } from '../../system/files'
import { MAX_FILE, SEALED_SUFFIX } from '../client-key'
import { clientConfig, type Entry, type Given, readProfiles, saveProfile } from '../profiles'
import type { Brought } from './bring'
import { hostFor, oldPath, profileNameOf, profileOf, type Step, stepForKey, stepForProfile, type There } from './plan'
import { programFor } from './program'
import { type SshHost, sshPort } from './ssh-config'

/* A key that somebody has brought is put in its place, and made to open by one word. */

/** What its user says of it. */
export interface Wishes {
  /** The key's name here. */
  readonly as?: string
  readonly profile?: string
  readonly server?: string
  /** What is in the way is replaced. */
  readonly replace?: boolean
  /** The key stays under its passphrase. */
  readonly keepSealed?: boolean
}

/** What is to be done. Nothing has been written yet. */
export interface Plan {
  readonly key: KeyFile
  readonly keyFile: {
    readonly step: Step
    readonly path: string
    readonly content: string | Uint8Array
    readonly there: There | null
  }
  readonly profile: { readonly step: Step; readonly path: string; readonly name: string; readonly given: Given }
  /** null: the key does not say which port is that of ssh. */
  readonly ssh: SshHost | null
  /** A file with the plain key that is needed no more; null: there is none. */
  readonly spare: string | null
}

/**
 * Decides what becomes of a key here.
 * @param entries those that a profile may have
 * @throws {Fault} where something else is in its way
 */
export async function planToAdd(
  { key: its, sealed, path: source }: Brought,
  wishes: Wishes,
  entries: readonly Entry[],
): Promise<Plan> {
  const { as = its.id, replace = false, keepSealed: staysSealed = false } = wishes
  if (staysSealed && sealed === null) throw new UsageFault('--keep-sealed requires a key under a passphrase')
  const host = hostFor(its, wishes.server)
  const key = { ...its, id: as, host: its.host ?? host }
  const folder = clientKeys()
  const name = wishes.profile ?? profileNameOf({ id: as, host })
  const there = await lookFor(folder, as)
  const step = stepForKey({ key, sealed, staysSealed }, there, replace, freeName(folder, [profileNameOf({ id: as, host }), name]))
  const target = `${keyPath(folder, as)}${staysSealed ? SEALED_SUFFIX : ''}`
  const path = step === 'kept' && there ? there.path : target
  const content = staysSealed && sealed ? sealed : formatKeyFile(key)
  // A name with the suffix of a file would be taken for one.
  const given = profileOf(key, host, as.endsWith('.key') ? keyPath(folder, as) : as)
  const config = clientConfig()
  const profileStep = stepForProfile(config, name, given, (await readProfiles(config, entries)).get(name), replace)
  return {
    key,
    keyFile: { step, path, content, there },
    profile: { step: profileStep, path: config, name, given },
    ssh: sshHostOf(key, host, name),
    spare: source !== null && sealed === null && !(await isSameFile(source, path)) ? source : null,
  }
}

/** Whether two paths lead to one file. */
async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([one, other].map((path) => realpath(path).catch(() => path)))
  return first === second
}

function sshHostOf(key: KeyFile, host: string, profile: string): SshHost | null {
  const tcp = hintOf(key)?.services?.filter(({ protocol }) => protocol === 'tcp') ?? null
  const port = sshPort(tcp?.map((service) => service.port) ?? null)
  if (port === null) return null
  const program = programFor(process.env.PATH ?? '', process.argv[1] ?? process.execPath, existsSync)
  return { profile, host, port: port === 22 ? null : port, program }
}

/** What is in the keyring under a key's name. */
async function lookFor(folder: string, id: string): Promise<There | null> {
  const path = keyPath(folder, id)
  const sealed = `${path}${SEALED_SUFFIX}`
  try {
    if (existsSync(path)) return { kind: 'plain', path, key: await loadKeyFile(path) }
    return existsSync(sealed) ? { kind: 'sealed', path: sealed, bytes: await readBytes(sealed, MAX_FILE) } : null
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault
    return { kind: 'unreadable', path: existsSync(path) ? path : sealed, fault }
  }
}

/** The first name that no key has yet, or what to put in its place. */
function freeName(folder: string, names: readonly string[]): string {
  const isFree = (name: string) => ['', SEALED_SUFFIX].every((suffix) => !existsSync(keyPath(folder, name) + suffix))
  return names.find((name) => KEY_ID.test(name) && isFree(name)) ?? 'NAME'
}

/** Puts key and profile in their places. @returns where the key is kept that was replaced; null: none was @throws {Fault} */
export async function carryOut({ keyFile, profile }: Plan, entries: readonly Entry[]): Promise<string | null> {
  const old = await writeKey(keyFile)
  if (profile.step !== 'kept') await saveProfile(profile.path, profile.name, profile.given, entries, profile.step === 'replaced')
  return old
}

async function writeKey({ step, path, content, there }: Plan['keyFile']): Promise<string | null> {
  if (step === 'kept') return null
  await makeRoom(clientKeys())
  if (step === 'new' || there === null) {
    await writeNew(path, content)
    return null
  }
  const old = oldPath(there)
  // The old one is safe before the new one is there.
  await writeNew(old, await readBytes(there.path, MAX_FILE))
  if (path === there.path) await changeText(path, async () => content)
  else {
    await writeNew(path, content)
    await unlink(there.path)
  }
  return old
}
