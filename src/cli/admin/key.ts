import type { Command } from 'commander'
import { clientCopy, namesOf } from '../../admin/client-copy'
import { readKey, readKeys, revoke } from '../../admin/keyring'
import { serverKeyring } from '../../admin/keyring-config'
import { publicPart, stateOf } from '../../admin/public-part'
import { endOf } from '../../gate/server-key'
import type { KeyFile } from '../../keys/key-file'
import { formatKeyLine } from '../../keys/key-line'
import { sealText } from '../../keys/sealed-key'
import { printable, UsageFault } from '../../system/fault'
import { checkFree, writeNew } from '../../system/files'
import { isoTime } from '../../system/time'
import { checkId, subcommand } from '../options'
import { failWith, jsonOption, printTable } from '../voice'
import { addNewKey } from './new-key'
import { newPassphrase, showPassphrase } from './new-passphrase'
import { addPasscode } from './passcode'
import { keysOption, type ServerKeyringOptions, withServerKeyring } from './places'
import { NAME, print, warn } from './voice'

/** Gives knockturn the commands of keys. */
export function addKey(parent: Command): void {
  const keys = subcommand(parent, 'key', 'make, list, show, export and revoke keys, and give them passcodes', 'key list')
  addNewKey(keys)
  withServerKeyring(subcommand(keys, 'list', 'list the keys', 'key list --json'))
    .addOption(jsonOption())
    .action(list)
  subcommand(keys, 'show <id>', 'show a key without its secret and its PIN', 'key show alice')
    .addOption(keysOption())
    .addOption(jsonOption())
    .action(show)
  addExport(keys)
  subcommand(keys, 'revoke <id>', 'revoke a key: the daemon refuses its knocks and ends its leases at once', 'key revoke alice')
    .addOption(keysOption())
    .action(revokeNow)
  addPasscode(keys)
}

function addExport(keys: Command): void {
  subcommand(
    keys,
    'export <id>',
    "write the client's copy of a key: its secret, where to knock, and a hint at what it may open",
    'key export alice --out alice.key',
  )
    .addOption(keysOption())
    .option('--out <file>', 'file to write to (default: standard output)')
    .option('--passphrase', 'encrypt it with a passphrase, which you are asked for')
    .option('--line', 'print it as one command for the client, encrypted with a passphrase that is made and shown once')
    .option('--plain', 'leave out what it may open, for a client of version 0.1.0')
    .action(exportKey)
}

async function list({ keys, config, json }: ServerKeyringOptions & { json?: boolean }): Promise<void> {
  const { folder, config: its } = await serverKeyring(config, keys)
  const { keys: all, faulty, ignored } = await readKeys(folder)
  if (json) print(printable(JSON.stringify(all.map(publicPart))))
  else if (all.length > 0) printKeys(all, its?.server)
  else print(`${folder}: no keys`)
  for (const path of ignored) warn(`${path}: ignored: not named <id>.key`)
  process.exitCode = failWith(
    NAME,
    faulty.flatMap(({ faults }) => faults),
  )
}

/** @param label the server's, where it is known */
function printKeys(all: readonly KeyFile[], label: string | undefined): void {
  const now = Date.now()
  const rows = all.map((key) => {
    const { id, fingerprint, server, expires, grant, hint, passcode } = publicPart(key)
    const { services, max } = grant ?? hint ?? {}
    const may = [services?.join(',') ?? '-', max ?? '-', passcode ? 'yes' : '']
    return [id, fingerprint.slice(0, 8), stateOf(key, label, now), expires ?? '-', server, ...may]
  })
  printTable([['ID', 'FINGERPRINT', 'STATE', 'EXPIRES', 'SERVER', 'SERVICES', 'MAX', 'PASSCODE'], ...rows])
}

async function show(id: string, { keys, json }: { keys: string; json?: boolean }): Promise<void> {
  checkId(id)
  const key = publicPart(await readKey(keys, id))
  if (json) return print(printable(JSON.stringify(key)))
  for (const [name, value] of Object.entries(key)) {
    if (value !== null && typeof value === 'object')
      for (const [rule, what] of Object.entries(value)) print(`${`${name}.${rule}`.padEnd(26)} ${printable(String(what))}`)
    else print(`${name.padEnd(26)} ${printable(String(value ?? '-'))}`)
  }
}

interface ExportOptions {
  keys: string
  out?: string
  passphrase?: boolean
  line?: boolean
  plain?: boolean
}

async function exportKey(id: string, { keys, out, passphrase, line, plain = false }: ExportOptions): Promise<void> {
  if (line && passphrase) throw new UsageFault('--line cannot be used with --passphrase: it makes one itself')
  if (line && plain) throw new UsageFault('--line cannot be used with --plain: version 0.1.0 has no "knockclient add"')
  if (out !== undefined) await checkFree(out)
  checkId(id)
  const file = await readKey(keys, id)
  const copy = clientCopy(file, plain)
  const end = endOf(file, Date.now())
  if (end) warn(`the key ${id} is ${end}: the server refuses its knocks`)
  const text = line ? await sealedLine(copy) : passphrase ? await sealText(copy, await newPassphrase(namesOf(file))) : copy
  if (out === undefined) process.stdout.write(text)
  else {
    await writeNew(out, text)
    print(`wrote ${out}: whoever has this file${line || passphrase ? ' and its passphrase' : ''} can knock`)
  }
}

/** A key's copy as a command for the client. The passphrase is shown first: without it, the line is of no use. */
async function sealedLine(copy: string): Promise<string> {
  const { makePassphrase } = await import('../../keys/passphrase')
  const passphrase = makePassphrase()
  const text = `${await formatKeyLine(copy, passphrase)}\n`
  showPassphrase(passphrase)
  return text
}

async function revokeNow(id: string, { keys }: { keys: string }): Promise<void> {
  checkId(id)
  const now = Math.floor(Date.now() / 1000) * 1000
  const at = await revoke(keys, id, now)
  print(at === now ? `revoked ${id}` : `${id} has been revoked since ${isoTime(at)}`)
}
