import { dirname, resolve } from 'node:path'
import * as v from 'valibot'
import { MAX_KEY_LEASES } from '../gate/leases'
import { cidr } from '../keys/grant-table'
import { serverLabel } from '../keys/key-file'
import { SERVER_KEYS } from '../keys/keyring'
import { type Cidr, parseCidr } from '../protocol/address'
import { MAX_PIN_DIGITS, PASSCODE_BASE, passcodeRange } from '../protocol/passcode'
import { MAX_PORT } from '../protocol/ports'
import { Fault, keepFault, type Read } from '../system/fault'
import { checkOwned, ReadFault, readText } from '../system/files'
import { leadingTo, readToml } from '../system/toml'
import { text, whole } from '../system/toml-entries'
import { type CommandConfig, commandSchema } from './command/config'
import { failOpenEntries, failOpenFault, failOpenOf } from './fail-open'
import { type FleetConfig, fleetOf, ledgerSchema, SERVER_LEDGER } from './fleet/config'
import { allBut, type Guard, merged, parseGuarded, parseInterface } from './guard'
import { MAX_LEASES } from './nftables/elements'
import { resolveAuto } from './saved-guard'

export const SERVER_CONFIG = '/etc/knockturn/knockturn.toml'
/** Longest config in bytes. */
export const MAX_CONFIG = 64 * 1024
/** Largest skew (docs/protocol.md, "Constants"). */
const MAX_SKEW = 10
/** Longest log prefix that the kernel's NFLOG and LOG targets both take. */
const MAX_PREFIX = 29

/** Most ports of datagram knocks: as many as one rule of the firewall names (xt_multiport). */
const MAX_DATAGRAM_PORTS = 15

/** The ways to have leases in force. */
const BACKENDS = ['iptables', 'nftables', 'command', 'dry-run'] as const
/** What a set-up writes where it leaves the choice to the machine (see {@link resolveAuto}). */
const AUTO = 'auto'
/** Most entries of `guard`: more than anybody writes by hand. */
const MAX_GUARDED = 256

/** Where taps come from, and which rule of the firewall's says them. */
export interface TapsConfig {
  readonly source: 'nflog' | 'file' | 'journal' | 'stdin'
  /** What the source "file" follows; null with any other. */
  readonly file: string | null
  /** The log rule's target: NFLOG, or the kernel's own log. */
  readonly target: 'nflog' | 'log'
  readonly group: number
  readonly prefix: string
}

/** Where passcodes are heard: ten ports from `base` on for each digit. */
export interface PasscodeConfig {
  readonly base: number
  readonly pinDigits: number
}

/** The daemon's config. Paths are absolute. */
export interface Config {
  readonly server: string
  readonly keys: string
  readonly skew: number
  readonly neverLock: readonly Cidr[]
  readonly taps: TapsConfig
  /** The ports to which a knock may come in one datagram; none: datagrams are not heard. */
  readonly datagram: { readonly ports: readonly number[] }
  readonly firewall: {
    readonly backend: (typeof BACKENDS)[number]
    /** What nobody reaches without a lease. Networks: null are those of containers' bridges, as they are at the time. */
    readonly guard: Omit<Guard, 'networks' | 'inside' | 'isStrict'> & { readonly networks: readonly Cidr[] | null }
    /** Leases of one key that may be in force, so that none can use up the room of the others. */
    readonly leasesPerKey: number
    /** The user's own program; null where there is none, and never with the backend "command". */
    readonly command: CommandConfig | null
  }
  /** The file; and what it shares with other gateways, null where it is alone. */
  readonly ledger: { readonly path: string; readonly fleet: FleetConfig | null }
  readonly passcode: PasscodeConfig
}

const path = v.pipe(v.string(), v.minLength(1, 'a path'))

const tapsSchema = v.strictObject({
  source: v.optional(v.picklist(['nflog', 'file', 'journal', 'stdin'], '"nflog", "file", "journal" or "stdin"'), 'nflog'),
  file: v.optional(path),
  target: v.optional(v.picklist(['nflog', 'log'], '"nflog" or "log"')),
  group: v.optional(whole(0, 65535), 5),
  prefix: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[\x21-\x7e][\x20-\x7e]*$/, 'printable ASCII'),
      v.maxLength(MAX_PREFIX, `at most ${MAX_PREFIX} characters`),
    ),
    'KNOCK: ',
  ),
})

/** The journal holds what the kernel logs; the others are fed by NFLOG if nothing else is said. */
const targetOf = ({ source, target }: v.InferOutput<typeof tapsSchema>) => target ?? (source === 'journal' ? 'log' : 'nflog')

/** What of [taps] must fit together, where each by itself is right. */
const fitting = v.rawCheck<v.InferOutput<typeof tapsSchema>>(({ dataset, addIssue }) => {
  if (!dataset.typed || dataset.issues) return
  const { value } = dataset
  const expect = (key: keyof typeof value, message: string) =>
    addIssue({ message, input: value[key], path: leadingTo(value, key) })
  const { source, file, target, prefix } = value
  if (source === 'file' && file === undefined) expect('source', 'must come with file = "/path/of/the/log" in [taps]')
  if (source !== 'file' && file !== undefined) expect('file', 'requires source = "file" in [taps]')
  if (source === 'nflog' && target === 'log') expect('target', 'must be "nflog" with source = "nflog"')
  if (source === 'journal' && target === 'nflog') expect('target', 'must be "log" with source = "journal"')
  // NFLOG's readers put a space behind the prefix, the kernel's log does not.
  if (targetOf(value) === 'log' && !prefix.endsWith(' ')) expect('prefix', "must end with a space, for the kernel's log")
})

const passcodeSchema = v.strictObject({
  base: v.optional(whole(1, MAX_PORT), PASSCODE_BASE),
  pin_digits: v.optional(whole(0, MAX_PIN_DIGITS), MAX_PIN_DIGITS),
})

/** The last passcode port must be one. */
const ending = v.rawCheck<v.InferOutput<typeof passcodeSchema>>(({ dataset, addIssue }) => {
  if (!dataset.typed || dataset.issues) return
  const { value } = dataset
  const { base, pin_digits } = value
  const beyond = passcodeRange(base, pin_digits)[1] - MAX_PORT
  if (beyond <= 0) return
  const message = `at most ${base - beyond}, so that its ports end at ${MAX_PORT}`
  addIssue({ message, input: base, path: leadingTo(value, 'base') })
})

/** Whom the guard spares: an interface, or a block. */
const parseSpared = (input: string) => parseCidr(input) ?? parseInterface(input)

const guardedPorts = v.pipe(
  v.array(text(parseGuarded, 'ports such as "22/tcp" or "60000-61000/udp"')),
  v.maxLength(MAX_GUARDED, `at most ${MAX_GUARDED} entries`),
)

/** What is wrong with a list is said of its entry. */
const guardEntry = v.lazy((input) => (typeof input === 'string' ? v.literal('all', '"all", or a list of ports') : guardedPorts))

const table = v.strictObject({
  server: serverLabel,
  keys: v.optional(path, SERVER_KEYS),
  skew: v.optional(whole(0, MAX_SKEW), 1),
  never_lock: v.optional(v.array(cidr), []),
  taps: v.optional(v.pipe(tapsSchema, fitting), {}),
  datagram: v.optional(
    v.strictObject({
      ports: v.optional(
        v.pipe(v.array(whole(1, MAX_PORT)), v.maxLength(MAX_DATAGRAM_PORTS, `at most ${MAX_DATAGRAM_PORTS} ports`)),
        [],
      ),
    }),
    {},
  ),
  firewall: v.optional(
    v.strictObject({
      backend: v.optional(v.picklist([...BACKENDS, AUTO], '"iptables", "nftables", "command" or "dry-run"'), 'iptables'),
      guard: v.optional(guardEntry, []),
      public: v.optional(guardedPorts),
      guard_except: v.optional(
        v.pipe(
          v.array(text(parseSpared, 'an interface such as "br-*", or a block such as "10.0.0.0/8"')),
          v.maxLength(MAX_GUARDED, `at most ${MAX_GUARDED} entries`),
        ),
        [],
      ),
      guard_networks: v.optional(v.pipe(v.array(cidr), v.maxLength(MAX_GUARDED, `at most ${MAX_GUARDED} entries`))),
      leases_per_key: v.optional(whole(1, MAX_LEASES), MAX_KEY_LEASES),
      ...failOpenEntries,
      command: v.optional(commandSchema),
    }),
    {},
  ),
  ledger: v.optional(ledgerSchema, {}),
  passcode: v.optional(v.pipe(passcodeSchema, ending), {}),
})

/** Of the sources, only one reports what is in a packet. */
const schema = v.pipe(
  table,
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed || dataset.issues) return
    const { value } = dataset
    const { datagram, taps, passcode, firewall } = value
    if (firewall.public && firewall.guard !== 'all')
      addIssue({ message: 'requires guard = "all"', input: firewall.public, path: leadingTo(value, 'firewall', 'public') })
    if (firewall.backend === AUTO && firewall.guard.length === 0)
      addIssue({
        message: 'requires a guard in [firewall]: the one that is saved says which backend it is',
        input: firewall.backend,
        path: leadingTo(value, 'firewall', 'backend'),
      })
    if (firewall.backend === 'command' && !firewall.command)
      addIssue({
        message: 'must come with open = [...] and close = [...] in [firewall.command]',
        input: firewall.backend,
        path: leadingTo(value, 'firewall', 'backend'),
      })
    // What is beyond this machine is closed by the user's own rules there.
    if (firewall.backend === 'command' && firewall.guard.length > 0)
      addIssue({
        message: 'must not be set with backend = "command", which guards nothing',
        input: firewall.guard,
        path: leadingTo(value, 'firewall', 'guard'),
      })
    const [entry, message] = failOpenFault(firewall) ?? []
    if (entry && message) addIssue({ message, input: firewall[entry], path: leadingTo(value, 'firewall', entry) })
    const [first, last] = passcodeRange(passcode.base, passcode.pin_digits)
    if (datagram.ports.some((port) => port >= first && port <= last))
      addIssue({
        message: `must not contain a passcode port (${first} to ${last})`,
        input: datagram.ports,
        path: leadingTo(value, 'datagram', 'ports'),
      })
    if (datagram.ports.length === 0 || taps.source === 'nflog') return
    addIssue({
      message: `requires source = "nflog" in [taps]: the source "${taps.source}" does not report what is in a packet`,
      input: datagram.ports,
      path: leadingTo(value, 'datagram', 'ports'),
    })
  }),
)

/** What of a faulty config can be followed all the same: its label and the places that it names. */
export async function readPlaces(file: string): Promise<{ server?: string; keys?: string; ledger: { path?: string } }> {
  const loose = v.object({
    server: v.string(),
    keys: v.fallback(v.string(), SERVER_KEYS),
    ledger: v.fallback(v.object({ path: v.string() }), { path: SERVER_LEDGER }),
  })
  const read = await readText(file, MAX_CONFIG, checkOwned)
    .then((text) => readToml(file, text, loose))
    .catch(() => null)
  if (!read?.value) return { ledger: {} }
  const from = dirname(resolve(file))
  const { server, keys, ledger } = read.value
  return { server, keys: resolve(from, keys), ledger: { path: resolve(from, ledger.path) } }
}

const NO_CONFIG = 'name the right one with --config, or write one with at least this line: server = "a name for this server"'

/**
 * Reads the daemon's config; relative paths in it start from its folder.
 * @returns the config, or every fault in it with file and line
 */
export async function readConfig(file: string): Promise<Read<Config>> {
  let text: string
  try {
    text = await readText(file, MAX_CONFIG, checkOwned)
  } catch (error) {
    if (error instanceof ReadFault && error.code === 'ENOENT')
      return {
        faults: [new Fault(error.message, { hint: NO_CONFIG })],
      }
    if (error instanceof Fault) return { faults: [error] }
    throw error
  }
  return parseConfig(file, text)
}

/** Reads the text of a config, as {@link readConfig}. @param file where it lies, or is to lie */
export async function parseConfig(file: string, text: string): Promise<Read<Config>> {
  const read = readToml(file, text, schema)
  if (read.faults) return read
  const { server, keys, skew, never_lock, taps, datagram, firewall, ledger, passcode } = read.value
  const from = dirname(resolve(file))
  const faults: Fault[] = []
  const backend = firewall.backend === AUTO ? await keepFault(faults, () => resolveAuto(from)) : firewall.backend
  if (backend === undefined) return { faults }
  return {
    value: {
      server,
      keys: resolve(from, keys),
      skew,
      neverLock: never_lock,
      taps: {
        ...taps,
        file: taps.file === undefined ? null : resolve(from, taps.file),
        target: targetOf(taps),
      },
      datagram: { ports: [...new Set(datagram.ports)].sort((a, b) => a - b) },
      firewall: {
        backend,
        guard: {
          ports: firewall.guard === 'all' ? allBut(firewall.public ?? []) : merged(firewall.guard),
          interfaces: firewall.guard_except.flatMap((one) => (typeof one === 'string' ? one : [])),
          blocks: firewall.guard_except.flatMap((one) => (typeof one === 'string' ? [] : one)),
          networks: firewall.guard_networks ?? null,
          ...failOpenOf(firewall),
        },
        leasesPerKey: firewall.leases_per_key,
        command: firewall.command ?? null,
      },
      ledger: { path: resolve(from, ledger.path), fleet: fleetOf(ledger, from) },
      passcode: { base: passcode.base, pinDigits: passcode.pin_digits },
    },
  }
}
