import * as v from 'valibot'
import { type GrantRules, MIN_OPEN_PREFIX, MIN_OPEN_PREFIX6, type PasscodeGrant } from '../gate/server-key'
import { formatAddress, formatCidr, parseCidr } from '../protocol/address'
import { MAX_PIN_DIGITS } from '../protocol/passcode'
import { formatService, parseService, type Service } from '../protocol/service'
import { formatDuration, parseLifetime } from '../system/time'
import { leadingTo } from '../system/toml'
import { text, whole } from '../system/toml-entries'

/* What a key may open: the tables [grant] and [passcode] of its file, there and back. */

/** Services of one grant, each of which makes a rule of its own, and address blocks, each of which is compared for a knock. */
export const MAX_SERVICES = 64
const MAX_BLOCKS = 256

/** An address block. */
export const cidr = text(parseCidr, 'an address or a block such as "198.51.100.0/24", with zeros behind the prefix')

/** What is written of services and a duration, in a grant and in a client's copy. */
export const servicesEntry = v.pipe(
  v.array(text(parseService, 'a service such as "22/tcp"')),
  v.minLength(1, 'at least one service'),
  v.maxLength(MAX_SERVICES, `at most ${MAX_SERVICES} services`),
)
export const maxEntry = text(parseLifetime, 'a duration such as "15m" or "1h30m", at most 16,777,215 s')

const grantTable = v.strictObject({
  services: servicesEntry,
  max: v.optional(maxEntry, '1h'),
  addresses: v.optional(v.pipe(v.array(cidr), v.maxLength(MAX_BLOCKS, `at most ${MAX_BLOCKS} blocks`)), ['0.0.0.0/0', '::/0']),
  bind_source: v.optional(v.boolean(), true),
  require_address: v.optional(v.boolean(), false),
  allow_until_closed: v.optional(v.boolean(), false),
  lock: v.optional(v.boolean(), false),
  // Bits of the block for which a lease opens.
  open_prefix: v.optional(whole(MIN_OPEN_PREFIX, 32), 32),
  open_prefix6: v.optional(whole(MIN_OPEN_PREFIX6, 128), 128),
})

/** The table [grant]. A block that goes beyond what the key may open for would have every knock refused. */
export const grantSchema = v.pipe(
  grantTable,
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed || dataset.issues) return
    const { value } = dataset
    for (const [key, length] of [
      ['open_prefix', 4],
      ['open_prefix6', 16],
    ] as const) {
      const narrow = value.addresses.find(({ bytes, bits }) => bytes.length === length && bits > value[key])
      if (narrow && value[key] < 8 * length)
        addIssue({
          message: `at least ${narrow.bits}, as there is ${formatCidr(narrow)} in addresses`,
          input: value[key],
          path: leadingTo(value, key),
        })
    }
  }),
)

/** What a table [grant] says. */
export function readGrant(table: v.InferOutput<typeof grantSchema>): GrantRules {
  return {
    services: table.services,
    max: table.max,
    addresses: table.addresses,
    bindSource: table.bind_source,
    requireAddress: table.require_address,
    allowUntilClosed: table.allow_until_closed,
    lock: table.lock,
    openPrefix: table.open_prefix,
    openPrefix6: table.open_prefix6,
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

/** How long a passcode opens for if nothing else is said, in seconds; never longer than the grant's longest. */
const PASSCODE_SECONDS = 300
const PIN_RULE = `0 to ${MAX_PIN_DIGITS} digits in quotes`

/** The table [passcode]. */
export const passcodeSchema = v.strictObject({
  pin: v.pipe(v.string(PIN_RULE), v.regex(/^\d*$/, PIN_RULE), v.maxLength(MAX_PIN_DIGITS, PIN_RULE)),
  services: v.optional(servicesEntry),
  time: v.optional(text(parseLifetime, 'a duration such as "5m"')),
  once: v.optional(v.boolean(), true),
})

/** What is asked of a passcode; services and seconds are undefined where its key's grant says them. */
export interface PasscodeWish {
  readonly services?: readonly Service[] | undefined
  readonly time?: number | undefined
  readonly once: boolean
}

/** What a passcode opens: what is asked for, or what the grant has; for at most {@link PASSCODE_SECONDS} then. */
export function passcodeOpens(
  { services, time, once }: PasscodeWish,
  grant: Pick<GrantRules, 'services' | 'max'>,
): Omit<PasscodeGrant, 'pin'> {
  return { services: services ?? grant.services, seconds: time ?? Math.min(PASSCODE_SECONDS, grant.max), once }
}

/** What a table [passcode] says, beside its key's grant. */
export function readPasscode(
  table: v.InferOutput<typeof passcodeSchema>,
  grant: Pick<GrantRules, 'services' | 'max'>,
): PasscodeGrant {
  return { pin: table.pin, ...passcodeOpens(table, grant) }
}

/** What a passcode opens, as the table of a key file, but for its PIN. */
export function describePasscode({ services, seconds, once }: PasscodeGrant) {
  return { services: services.map(formatService), time: formatDuration(seconds), once }
}
