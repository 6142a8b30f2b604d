import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import type { Command } from 'commander'
// The page's script, which the build has bundled before.
import script from '../../../dist/page.txt'
import { httpHosts, pageText } from '../../browser/file'
import html from '../../browser/index.html'
import style from '../../browser/style.css'
import { resolveHost } from '../../client/host'
import { askedOf, isOver } from '../../gate/server-key'
import { hintOf } from '../../keys/key-file'
import { findKey, SERVER_KEYS } from '../../keys/keyring'
import { sealBytes } from '../../keys/sealed-key'
import { canonicalAddress } from '../../protocol/address'
import { MAX_PERIOD, MIN_PERIOD } from '../../protocol/key'
import { LAST_PASSCODE_BASE, MAX_PIN_DIGITS, PASSCODE_BASE } from '../../protocol/passcode'
import { formatPool } from '../../protocol/pool'
import { formatService, readService, type Service } from '../../protocol/service'
import { Fault, quoted, UsageFault } from '../../system/fault'
import { asOwner, checkFree, writeNew } from '../../system/files'
import { formatDuration, parseLifetime } from '../../system/time'
import { checkId, reading, whole } from '../options'
import { noteOf, warnOf } from '../voice'
import { newPassphrase } from './new-passphrase'

/** The program whose command this is. */
const NAME = 'knockturn'

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
  base: number
  pinDigits: number
  period: number
}

/** Gives `knockturn page` its options and its work; returns it. */
export function withPage(command: Command): Command {
  return command
    .argument('[id]', 'the key to put into the page, sealed by a passphrase')
    .requiredOption('--out <file>', 'where to write the page')
    .option('--keys <dir>', "the keyring's folder", SERVER_KEYS)
    .option('--host <host>', "the server (default: the key's host)")
    .addOption(
      reading(
        '--address <list>',
        'where to knock (default: what the host resolves to now)',
        readAddresses,
        'IP addresses such as 198.51.100.1,2001:db8::1',
      ),
    )
    .addOption(
      reading(
        '--services <list>',
        "what it offers to open (default: what the key's grant lists, or 22/tcp)",
        readServices,
        'services such as 22/tcp,53/udp',
      ),
    )
    .addOption(
      reading(
        '--time <duration>',
        'how long a door is opened unless another time is chosen',
        parseLifetime,
        'a duration such as 15m',
      ).default(900, '15m'),
    )
    .option('--passcode', 'no key in the page: fields for PIN and code')
    .addOption(
      reading(
        '--base <port>',
        "passcodes: the server's first port for them",
        whole(1, LAST_PASSCODE_BASE),
        `a port from 1 to ${LAST_PASSCODE_BASE}`,
      ).default(PASSCODE_BASE),
    )
    .addOption(
      reading(
        '--pin-digits <n>',
        'passcodes: digits of the PIN',
        whole(0, MAX_PIN_DIGITS),
        `a number from 0 to ${MAX_PIN_DIGITS}`,
      ).default(MAX_PIN_DIGITS),
    )
    .addOption(
      reading(
        '--period <seconds>',
        'passcodes: how long a code lasts',
        whole(MIN_PERIOD, MAX_PERIOD),
        `${MIN_PERIOD} to ${MAX_PERIOD} seconds`,
      ).default(30),
    )
    .action(async (id: string | undefined, options: Options) => {
      await checkFree(options.out)
      const text = options.passcode ? await passcodePage(id, options) : await keyPage(id, options)
      await writeNew(options.out, text)
      const what = options.passcode ? 'no key is in it' : 'whoever has this file and its passphrase can knock'
      process.stdout.write(
        `wrote ${options.out}: ${what}; open it in a browser, from a disk, a phone or a web host's name that is its own\nSHA-256 of it: ${createHash('sha256').update(text).digest('hex')}\n`,
      )
    })
}

async function keyPage(id: string | undefined, options: Options): Promise<string> {
  if (id === undefined) throw new UsageFault('<id> expected: say which key to put into the page, or --passcode for one without')
  checkId(id)
  const file = await asOwner(options.keys, () => findKey(options.keys, id))
  const { key, host, expires, revoked } = file
  if (isOver({ revoked, expires }, Date.now()))
    throw new Fault(
      `${id}: expected a key that holds, got one that has been revoked or has expired: make another with "knockturn key new"`,
    )
  const { services, max: longest } = hintOf(file) ?? {}
  const doors = options.services ?? services ?? [{ port: 22, protocol: 'tcp' }]
  const max = longest ?? Math.max(options.time, 24 * 3600)
  const place = await findPlace(options.host ?? host, options)
  const sealed = Buffer.from(
    await sealBytes(key.secret, await newPassphrase([id, place.host, key.server, ...doors.map(formatService)])),
  ).toString('base64')
  const { server, period } = key
  const seconds = Math.min(options.time, max)
  if (seconds < options.time) warnOf(NAME, `${id}: opens for ${formatDuration(max)} at most, so that is the page's time`)
  const beyond = services ? doors.filter((door) => askedOf(services, door).length === 0).map(formatService) : []
  if (beyond.length > 0) warnOf(NAME, `${id}: may not open ${beyond.join(',')}, which the page offers`)
  return pageText(
    { html, style, script },
    { kind: 'key', ...place, doors, period, server, pool: formatPool(key.pool), sealed, seconds, max },
  )
}

async function passcodePage(id: string | undefined, options: Options): Promise<string> {
  if (id !== undefined) throw new UsageFault(`--passcode goes without a key: leave out ${quoted(id)}`)
  const { base, pinDigits, period } = options
  const place = await findPlace(options.host, options)
  // A code is good once: said to both families, it would open by one, and be a replay by the other.
  const address = place.addresses.find((one) => isIP(one) === 4) ?? place.addresses[0]
  const family = isIP(address)
  if (place.addresses.length > 1)
    noteOf(NAME, `the page knocks by IPv${family} only: go to the door that way, too, as in "ssh -${family}"`)
  const doors = options.services ?? [{ port: 22, protocol: 'tcp' }]
  const at = { host: place.host, addresses: [address], http: httpHosts(place.host, [address]) }
  return pageText({ html, style, script }, { kind: 'passcode', ...at, doors, period, base, pinDigits })
}

/** Where a page knocks: a browser's ICE takes addresses only, so they are looked up now. */
async function findPlace(host: string | null | undefined, { address }: Options) {
  if (!host) throw new UsageFault('--host expected: say which server to knock at')
  if (!isIP(host) && !HOST.test(host)) throw new UsageFault(`--host expected a host name or address alone, got ${quoted(host)}`)
  const addresses = address ?? (await resolveBoth(host))
  return { host, addresses, http: httpHosts(host, addresses) }
}

async function resolveBoth(host: string): Promise<string[]> {
  if (isIP(host)) return [canonicalAddress(host) ?? host]
  const found = await Promise.allSettled([resolveHost(host, 4), resolveHost(host, 6)])
  const addresses = found.flatMap((one) => (one.status === 'fulfilled' ? (canonicalAddress(one.value) ?? []) : []))
  if (addresses.length > 0) return [...new Set(addresses)]
  throw new Fault(`${host}: expected a host with an address: it has none from here: give it with --address`)
}

function readAddresses(text: string): string[] | null {
  const addresses = text.split(',').map((address) => canonicalAddress(address.trim()))
  if (addresses.length > MAX_ADDRESSES || !addresses.every((address) => address !== null)) return null
  return [...new Set(addresses)]
}

function readServices(text: string): Service[] | null {
  const services = text.split(',').map((service) => readService(service))
  return services.length <= MAX_DOORS && services.every((service) => service !== null) ? services : null
}
