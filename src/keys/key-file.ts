import { base32nopad } from '@scure/base'
import { stringify, TomlDate } from 'smol-toml'
import * as v from 'valibot'
import { askedOf, type GrantRules, MIN_OPEN_PREFIX, MIN_OPEN_PREFIX6, type PasscodeGrant } from '../gate/server-key'
import { formatAddress, formatCidr, parseCidr } from '../protocol/address'
import { deriveKey, KEY_ID, KEY_ID_RULE, type Key, labelFault, MAX_PERIOD, MIN_PERIOD, SECRET_BYTES } from '../protocol/key'
import { MAX_PIN_DIGITS } from '../protocol/passcode'
import { DEFAULT_POOL, formatPool } from '../protocol/pool'
import { formatService, parseService, type Service } from '../protocol/service'
import type { Read } from '../system/fault'
import { tooLong } from '../system/files'
import { formatDuration, parseLifetime } from '../system/time'
import { leadingTo, readToml } from '../system/toml'
import { sharedPool } from './shared-pool'

/** Longest key file in bytes: the largest grant fits, with comments. */
export const MAX_KEY_FILE = 64 * 1024
/** Services of one grant, each of which makes a rule of its own, and address blocks, each of which is compared for a knock. */
const MAX_SERVICES = 64
const MAX_BLOCKS = 256

/** What a key file says. */
export interface KeyFile {
  readonly id: string
  readonly key: Key
  /** Unix milliseconds; 0 where the file does not say */
  readonly created: number
  /** Unix milliseconds; null: never */
  readonly expires: number | null
  readonly revoked: number | null
  /** Where the client knocks, in its copy. */
  readonly host: string | null
  /** What the key may ask, on the server; null in the client's copy. */
  readonly grant: GrantRules | null
  /** What its passcode opens, on the server; absent where it has none. */
  readonly passcode?: PasscodeGrant
  /** What the client's copy says of the grant; absent where it says nothing, and on the server. */
  readonly hint?: GrantHint
}

/** What a key may open and for how long, as far as its file tells: by a client's copy, as it was when that was made. */
export interface GrantHint {
  readonly services: readonly Service[] | null
  /** Seconds. */
  readonly max: number | null
}

/** What a key's file tells of its grant, be it the server's or a client's copy; null: nothing. */
export function hintOf({ grant, hint }: Pick<KeyFile, 'grant' | 'hint'>): GrantHint | null {
  return grant ?? hint ?? null
}

/** A text that `read` understands; its RangeError, if it throws one, is the message. */
const text = <T>(read: (input: string) => T | null, expected: string) =>
  v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        const value = read(dataset.value)
        if (value !== null) return value
        addIssue({ message: expected })
      } catch (error) {
        addIssue({ message: (error as RangeError).message.replace(/^expected /, '') })
      }
      return NEVER
    }),
  )

export const serverLabel = v.pipe(
  v.string(),
  v.check((label) => labelFault(label) === null, 'at most 255 bytes of valid UTF-8 without NUL'),
)
export const cidr = text(parseCidr, 'an address or a block such as "198.51.100.0/24", with zeros behind the prefix')
const INSTANT = 'an offset date-time such as 2026-01-31T12:00:00Z'
const instant = v.pipe(
  v.date(INSTANT),
  // A local time is another instant in each zone, and a bare date or time is none.
  v.check((date) => date instanceof TomlDate && date.isDateTime() && !date.isLocal(), INSTANT),
  v.transform((date) => date.getTime()),
)

/** Bits of the block for which a lease opens. */
const prefix = (low: number, high: number) => {
  const rule = `a whole number from ${low} to ${high}`
  return v.optional(v.pipe(v.number(), v.integer(rule), v.minValue(low, rule), v.maxValue(high, rule)), high)
}

const servicesEntry = v.pipe(
  v.array(text(parseService, 'a service such as "22/tcp"')),
  v.minLength(1, 'at least one service'),
  v.maxLength(MAX_SERVICES, `at most ${MAX_SERVICES} services`),
)
const maxEntry = text(parseLifetime, 'a duration such as "15m" or "1h30m", at most 2^24-1 s')

const grantTable = v.strictObject({
  services: servicesEntry,
  max: v.optional(maxEntry, '1h'),
  addresses: v.optional(v.pipe(v.array(cidr), v.maxLength(MAX_BLOCKS, `at most ${MAX_BLOCKS} blocks`)), ['0.0.0.0/0', '::/0']),
  bind_source: v.optional(v.boolean(), true),
  require_address: v.optional(v.boolean(), false),
  allow_until_closed: v.optional(v.boolean(), false),
  lock: v.optional(v.boolean(), false),
  open_prefix: prefix(MIN_OPEN_PREFIX, 32),
  open_prefix6: prefix(MIN_OPEN_PREFIX6, 128),
})

/** A block that goes beyond what the key may open for would have every knock refused. */
const grantSchema = v.pipe(
  grantTable,
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed || dataset.issues) return
    const { value } = dataset
    for (const [key, family, length] of [
      ['open_prefix', 'IPv4', 4],
      ['open_prefix6', 'IPv6', 16],
    ] as const) {
      const narrow = value.addresses.find(({ bytes, bits }) => bytes.length === length && bits > value[key])
      if (narrow && value[key] < 8 * length)
        addIssue({
          message: `no ${family} block in addresses that is narrower, and there is ${formatCidr(narrow)}`,
          input: value[key],
          path: leadingTo(value, key),
        })
    }
  }),
)

/** How long a passcode opens for if nothing else is said, in seconds; never longer than the grant's longest. */
export const PASSCODE_SECONDS = 300
const PIN_RULE = `0 to ${MAX_PIN_DIGITS} digits in quotes`

const passcodeSchema = v.strictObject({
  pin: v.pipe(v.string(PIN_RULE), v.regex(/^\d*$/, PIN_RULE), v.maxLength(MAX_PIN_DIGITS, PIN_RULE)),
  services: v.optional(servicesEntry),
  time: v.optional(text(parseLifetime, 'a duration such as "5m"')),
  once: v.optional(v.boolean(), true),
})

const keyEntries = v.strictObject({
  id: v.pipe(v.string(), v.regex(KEY_ID, KEY_ID_RULE)),
  secret: text(decodeSecret, `base32 of ${SECRET_BYTES} bytes`),
  server: serverLabel,
  period: v.optional(
    v.pipe(
      v.number(),
      v.integer('a whole number'),
      v.minValue(MIN_PERIOD, `${MIN_PERIOD} or more`),
      v.maxValue(MAX_PERIOD, `${MAX_PERIOD} or less`),
    ),
    30,
  ),
  pool: v.optional(text(sharedPool, 'port ranges'), DEFAULT_POOL),
  created: v.optional(instant),
  expires: v.optional(instant),
  revoked: v.optional(instant),
  host: v.optional(v.pipe(v.string(), v.minLength(1, 'a host name or address'))),
  services: v.optional(servicesEntry),
  max: v.optional(maxEntry),
  grant: v.optional(grantSchema),
  passcode: v.optional(passcodeSchema),
})

/** Beside a grant, what is a hint in the client's copy would be taken for part of it. */
const hintAlone = v.rawCheck<v.InferOutput<typeof keyEntries>>(({ dataset, addIssue }) => {
  if (!dataset.typed || dataset.issues || !dataset.value.grant) return
  const { value } = dataset
  for (const entry of ['services', 'max'] as const)
    if (value[entry] !== undefined)
      addIssue({ message: 'to stand in [grant]', input: 'it outside', path: leadingTo(value, entry) })
})

/** A passcode opens nothing that its key may not, and can't name an address. */
const passcodeWithin = v.rawCheck<v.InferOutput<typeof keyEntries>>(({ dataset, addIssue }) => {
  const passcode = dataset.typed ? dataset.value.passcode : undefined
  if (!dataset.typed || dataset.issues || !passcode) return
  const { value } = dataset
  const expect = (message: string, entry?: 'services' | 'time', shown: unknown = entry && passcode[entry]) =>
    addIssue({
      message,
      input: shown,
      path: entry ? leadingTo(value, 'passcode', entry) : leadingTo(value, 'passcode'),
    })
  const { grant } = value
  if (!grant) return expect('a table [grant] beside it', undefined, passcode)
  if (grant.require_address) expect('no require_address = true in [grant]: it can name no address', undefined, passcode)
  const beyond = passcode.services?.filter((service) => askedOf(grant.services, service).length === 0) ?? []
  if (beyond.length > 0) expect('services of the grant', 'services', beyond.map(formatService).join(','))
  if (passcode.time !== undefined && passcode.time > grant.max)
    expect(`at most ${formatDuration(grant.max)}, the grant's max`, 'time', formatDuration(passcode.time))
})

const keySchema = v.pipe(keyEntries, hintAlone, passcodeWithin)

/** What no message may quote: a PIN that stands where a table should be, too. */
const SECRETS = ['secret', 'passcode', 'passcode.pin']

/** Reads a key file's text; every fault has file and line, and none quotes the secret. */
export function parseKeyFile(path: string, source: string): Read<KeyFile> {
  const size = Buffer.byteLength(source)
  if (size > MAX_KEY_FILE) return { faults: [tooLong(path, MAX_KEY_FILE, size)] }
  const read = readToml(path, source, keySchema, SECRETS)
  if (read.faults) return read
  const { id, secret, server, period, pool, created, expires, revoked, host, grant, passcode, services, max } = read.value
  return {
    value: {
      id,
      key: deriveKey({ secret, server, period, pool }),
      created: created ?? 0,
      expires: expires ?? null,
      revoked: revoked ?? null,
      host: host ?? null,
      grant: grant
        ? {
            services: grant.services,
            max: grant.max,
            addresses: grant.addresses,
            bindSource: grant.bind_source,
            requireAddress: grant.require_address,
            allowUntilClosed: grant.allow_until_closed,
            lock: grant.lock,
            openPrefix: grant.open_prefix,
            openPrefix6: grant.open_prefix6,
          }
        : null,
      ...(services || max ? { hint: { services: services ?? null, max: max ?? null } } : {}),
      ...(grant && passcode
        ? {
            passcode: {
              pin: passcode.pin,
              services: passcode.services ?? grant.services,
              seconds: passcode.time ?? Math.min(PASSCODE_SECONDS, grant.max),
              once: passcode.once,
            },
          }
        : {}),
    },
  }
}

/** A key file's text: the secret is in it. */
export function formatKeyFile({ id, key, created, expires, revoked, host, grant, passcode, hint }: KeyFile): string {
  const lines = stringify({
    id,
    secret: base32nopad.encode(key.secret),
    server: key.server,
    period: key.period,
    pool: formatPool(key.pool),
    created: new Date(created),
    ...(expires === null ? {} : { expires: new Date(expires) }),
    ...(revoked === null ? {} : { revoked: new Date(revoked) }),
    ...(host === null ? {} : { host }),
    ...(grant !== null || !hint ? {} : describeHint(hint)),
    ...(grant === null ? {} : { grant: describeGrant(grant) }),
    // The server's alone, as the grant is.
    ...(grant === null || !passcode ? {} : { passcode: { pin: passcode.pin, ...describePasscode(passcode) } }),
  })
  return `# A Knockturn key. Whoever can read this file can knock: keep it at mode 0600.\n${lines}\n`
}

/** A hint as entries of a key file. */
export function describeHint({ services, max }: GrantHint) {
  return {
    ...(services === null ? {} : { services: services.map(formatService) }),
    ...(max === null ? {} : { max: formatDuration(max) }),
  }
}

/** A grant as the table of a key file. */
export function describeGrant(grant: GrantRules) {
  return {
    services: grant.services.map(formatService),
    max: formatDuration(grant.max),
    addresses: grant.addresses.map(({ bytes, bits }) => `${formatAddress(bytes)}/${bits}`),
    bind_source: grant.bindSource,
    require_address: grant.requireAddress,
    allow_until_closed: grant.allowUntilClosed,
    lock: grant.lock,
    open_prefix: grant.openPrefix ?? 32,
    open_prefix6: grant.openPrefix6 ?? 128,
  }
}

/** What a passcode opens, as the table of a key file, but for its PIN. */
export function describePasscode({ services, seconds, once }: PasscodeGrant) {
  return { services: services.map(formatService), time: formatDuration(seconds), once }
}

/** Base32 in any case, padded or not; null where it is not 32 bytes of it. */
function decodeSecret(input: string): Uint8Array | null {
  try {
    const secret = base32nopad.decode(input.toUpperCase().replace(/=+$/, ''))
    return secret.length === SECRET_BYTES ? secret : null
  } catch {
    return null
  }
}
