import { base32nopad } from '@scure/base'
import { stringify } from 'smol-toml'
import * as v from 'valibot'
import { askedOf, type GrantRules, type PasscodeGrant } from '../gate/server-key'
import { deriveKey, KEY_ID, KEY_ID_RULE, type Key, labelFault, MAX_PERIOD, MIN_PERIOD, SECRET_BYTES } from '../protocol/key'
import { DEFAULT_POOL, formatPool } from '../protocol/pool'
import { formatService, type Service } from '../protocol/service'
import type { Read } from '../system/fault'
import { tooLong } from '../system/files'
import { formatDuration } from '../system/time'
import { leadingTo, readToml } from '../system/toml'
import { instant, text } from '../system/toml-entries'
import {
  describeGrant,
  describePasscode,
  grantSchema,
  maxEntry,
  passcodeSchema,
  readGrant,
  readPasscode,
  servicesEntry,
} from './grant-table'
import { sharedPool } from './shared-pool'

/** Longest key file in bytes: the largest grant fits, with comments. */
export const MAX_KEY_FILE = 64 * 1024

/** Seconds of a window where a key file does not say. */
export const DEFAULT_PERIOD = 30

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

/** A key as its client has it: what it may open is a hint there, and nothing else of the server's is left. */
export function asClient(file: KeyFile): KeyFile {
  const { grant: _, hint: __, passcode: ___, ...rest } = file
  const hint = hintOf(file)
  return { ...rest, grant: null, ...(hint ? { hint } : {}) }
}

export const serverLabel = v.pipe(
  v.string(),
  v.check((label) => labelFault(label) === null, 'at most 255 bytes of valid UTF-8 without NUL'),
)

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
    DEFAULT_PERIOD,
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
    if (value[entry] !== undefined) addIssue({ message: 'must be inside [grant]', path: leadingTo(value, entry) })
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
  if (!grant) return expect('requires a table [grant] in the same file', undefined, passcode)
  if (grant.require_address)
    expect('must not be used with require_address = true: a passcode cannot name an address', undefined, passcode)
  const beyond = passcode.services?.filter((service) => askedOf(grant.services, service).length === 0) ?? []
  if (beyond.length > 0) expect('services of [grant]', 'services', beyond.map(formatService).join(','))
  if (passcode.time !== undefined && passcode.time > grant.max)
    expect(`at most ${formatDuration(grant.max)} (max in [grant])`, 'time', formatDuration(passcode.time))
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
      grant: grant ? readGrant(grant) : null,
      ...(services || max ? { hint: { services: services ?? null, max: max ?? null } } : {}),
      ...(grant && passcode ? { passcode: readPasscode(passcode, grant) } : {}),
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

/** Base32 in any case, padded or not; null where it is not 32 bytes of it. */
function decodeSecret(input: string): Uint8Array | null {
  try {
    const secret = base32nopad.decode(input.toUpperCase().replace(/=+$/, ''))
    return secret.length === SECRET_BYTES ? secret : null
  } catch {
    return null
  }
}
