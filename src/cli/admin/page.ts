import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import type { Command } from 'commander'
// The page's script, which the build has bundled before.
import script from '../../../dist/page.txt'
import { readKey } from '../../admin/keyring'
import { addressForCode, DEFAULT_DOORS, namesOfPage, offerOf, sealSecret } from '../../admin/page'
import type { KeyPage, PasscodePage } from '../../browser/contents'
import { httpHosts, pageText } from '../../browser/file'
import html from '../../browser/index.html'
import style from '../../browser/style.css'
import { resolveHost } from '../../client/host'
import { DEFAULT_PERIOD } from '../../keys/key-file'
import { canonicalAddress } from '../../protocol/address'
import { MAX_PERIOD, MIN_PERIOD } from '../../protocol/key'
import { formatPool } from '../../protocol/pool'
import { formatService, readService, type Service } from '../../protocol/service'
import { Fault, quoted, UsageFault } from '../../system/fault'
import { checkFree, writeNew } from '../../system/files'
import { formatDuration, parseLifetime } from '../../system/time'
import { alsoCalled, checkId, reading, subcommand, whole } from '../options'
import { passcodeBaseOption, pinDigitsOption } from '../passcode-options'
import { noteOf } from '../voice'
import { listOf } from './lists'
import { newPassphrase } from './new-passphrase'
import { keysOption } from './places'
import { NAME, print, warn } from './voice'

/** A page knocks at each of its addresses, so there are few: one of each family, and a spare. */
const MAX_ADDRESSES = 4
/** Doors of a page: what a menu can show. */
const MAX_DOORS = 64
/** Of a host in a page: it stands in the page's security policy. */
const HOST = /^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$/

interface Options {
  keys: string
  out: string
  host?: string
  address?: string[]
  services?: Service[]
  time: number
  passcode?: boolean
  passcodeBase: number
  pinDigits: number
  period: number
}

/** Gives knockturn the command `page`. */
export function addPage(parent: Command): void {
  const command = subcommand(
    parent,
    'page',
    'write a web page that knocks, for a machine with only a browser',
    'page alice --out knock.html',
  )
  withPlace(command)
  withDoors(command)
  withPasscode(command).action(writePage)
}

/** What the page is made of, and where it knocks. */
function withPlace(command: Command): void {
  command
    .argument('[id]', 'the key to put into the page, sealed with a passphrase')
    .requiredOption('--out <file>', 'file to write to')
    .addOption(keysOption())
    .option('--host <host>', "server to knock at (default: the key's host)")
    .addOption(
      reading(
        '--address <list>',
        'addresses to knock at (default: those the host resolves to now)',
        readAddresses,
        'IP addresses such as 198.51.100.1,2001:db8::1',
      ),
    )
}

/** What the page opens, and for how long. */
function withDoors(command: Command): void {
  command
    .addOption(
      reading(
        '--services <list>',
        'services it offers to open (default: those the key may open, or 22/tcp)',
        readServices,
        'services such as 22/tcp,53/udp',
      ),
    )
    .addOption(
      reading(
        '--time <duration>',
        'how long it opens them for, unless the user chooses another time',
        parseLifetime,
        'a duration such as 15m',
      ).default(900, '15m'),
    )
}

/** What a page without a key has to know. */
function withPasscode(command: Command): Command {
  command.option('--passcode', 'make a page without a key, which asks for PIN and code')
  // As 0.1.0 called it.
  alsoCalled(command, '--base <port>', passcodeBaseOption())
  return command
    .addOption(pinDigitsOption())
    .addOption(
      reading(
        '--period <seconds>',
        'with --passcode: how long a code lasts, in seconds',
        whole(MIN_PERIOD, MAX_PERIOD),
        `${MIN_PERIOD} to ${MAX_PERIOD} seconds`,
      ).default(DEFAULT_PERIOD),
    )
}

async function writePage(id: string | undefined, options: Options): Promise<void> {
  const { out, passcode } = options
  await checkFree(out)
  const text = pageText({ html, style, script }, passcode ? await passcodePage(id, options) : await keyPage(id, options))
  await writeNew(out, text)
  const what = passcode ? 'it contains no key' : 'whoever has this file and its passphrase can knock'
  print(
    `wrote ${out}: ${what}\nnext: open it in a browser, from a disk, a phone, or a web host with a name of its own\nSHA-256: ${createHash('sha256').update(text).digest('hex')}`,
  )
}

async function keyPage(id: string | undefined, options: Options): Promise<KeyPage> {
  if (id === undefined)
    throw new UsageFault('no key named', { hint: 'name the key to put into the page, or add --passcode for a page without one' })
  checkId(id)
  const file = await readKey(options.keys, id)
  const { doors, beyond, seconds, max } = offerOf(file, options.services, options.time, Date.now())
  const place = await findPlace(options.host ?? file.host, options)
  const sealed = await sealSecret(file, await newPassphrase(namesOfPage(file, place.host, doors)))
  if (seconds < options.time) warn(`${id}: the key opens for at most ${formatDuration(max)}: the page uses that as its time`)
  if (beyond.length > 0) warn(`${id}: the page offers ${beyond.map(formatService).join(',')}, which the key may not open`)
  const { server, period, pool } = file.key
  return { kind: 'key', ...place, doors, period, server, pool: formatPool(pool), sealed, seconds, max }
}

async function passcodePage(id: string | undefined, options: Options): Promise<PasscodePage> {
  if (id !== undefined)
    throw new UsageFault('--passcode makes a page without a key, and a key was named', {
      hint: `leave out ${quoted(id)}, or leave out --passcode`,
    })
  const { passcodeBase: base, pinDigits, period, services: doors = DEFAULT_DOORS } = options
  const { host, addresses } = await findPlace(options.host, options)
  const address = addressForCode(addresses)
  const family = isIP(address)
  if (addresses.length > 1)
    noteOf(NAME, `the page knocks by IPv${family} only: connect by IPv${family} too, as in "ssh -${family}"`)
  return { kind: 'passcode', host, addresses: [address], http: httpHosts(host, [address]), doors, period, base, pinDigits }
}

/** Where a page knocks: a browser's ICE takes addresses only, so they are looked up now. */
async function findPlace(host: string | null | undefined, { address }: Options) {
  if (!host) throw new UsageFault('no server to knock at', { hint: 'add --host <host>' })
  if (!isIP(host) && !HOST.test(host))
    throw new UsageFault(`--host expected a host name or an address, without port or brackets, got ${quoted(host)}`)
  const addresses = address ?? (await resolveBoth(host))
  return { host, addresses, http: httpHosts(host, addresses) }
}

async function resolveBoth(host: string): Promise<string[]> {
  if (isIP(host)) return [canonicalAddress(host) ?? host]
  const found = await Promise.allSettled([resolveHost(host, 4), resolveHost(host, 6)])
  const addresses = found.flatMap((one) => (one.status === 'fulfilled' ? (canonicalAddress(one.value) ?? []) : []))
  if (addresses.length > 0) return [...new Set(addresses)]
  throw new Fault(`${host}: no address found for this host`, { hint: 'add --address <list>' })
}

function readAddresses(text: string): string[] | null {
  const addresses = listOf(canonicalAddress)(text)
  return addresses && addresses.length <= MAX_ADDRESSES ? [...new Set(addresses)] : null
}

function readServices(text: string): Service[] | null {
  const services = listOf(readService)(text)
  return services && services.length <= MAX_DOORS ? services : null
}
