import { hostname } from 'node:os'
import { resolve } from 'node:path'
import * as v from 'valibot'
import { canonicalAddress, isLoopback } from '../../protocol/address'
import { KEY_ID, KEY_ID_RULE } from '../../protocol/key'
import { MAX_PORT } from '../../protocol/ports'
import { parseDuration } from '../../system/time'
import { leadingTo } from '../../system/toml'
import { text } from '../../system/toml-entries'

/** The file where nothing else is said. */
export const SERVER_LEDGER = '/var/lib/knockturn/ledger'
/** Most endpoints: an etcd has three members or five, and hardly ever nine. */
const MAX_ENDPOINTS = 16
/** Longest prefix: rows are named behind it, and each name is sent with every claim. */
const MAX_PREFIX = 128
/** Bounds of the time that a call may take, in seconds: a new leader is there in two, and nobody waits longer for a port to open. */
const [LEAST, MOST, DEFAULT] = [1, 30, 5]

/** The etcd that the gateways of a fleet share, and what this one is in it. Paths are absolute. */
export interface FleetConfig {
  /** One or more, such as `https://10.0.0.1:2379`, each once. */
  readonly endpoints: readonly string[]
  /** In front of the names of all rows; ends with a slash. */
  readonly prefix: string
  /** Milliseconds that a call may take, all endpoints together. */
  readonly timeout: number
  /** What this gateway is called among the others. */
  readonly gateway: string
  /** Whether all packets of a source come to one gateway, by the administrator's word. */
  readonly pinned: boolean
  /** Files. Without `ca`, those count that Node trusts; `cert` and `key` come together. */
  readonly tls: { readonly ca: string | null; readonly cert: string | null; readonly key: string | null }
  /** A file with a user and a password; null: etcd asks for none. */
  readonly login: string | null
}

/** Why nobody gets a lease for one connection where several gateways open, each of which would let one in; null where it may be had. */
export const onceRefused = (fleet: FleetConfig | null): string | null =>
  !fleet || fleet.pinned
    ? null
    : 'the fleet does not count connections: set pinned = true where packets are routed by source, or knock without --once'

const ENDPOINT = /^(https?):\/\/(\[[\da-f]*:[\da-f:.]*\]|[\da-z._-]{1,253}):(\d{1,5})\/?$/i

/**
 * Reads where a member of etcd is asked.
 * @returns the URL without a path; null where it is none
 * @throws {RangeError} where others would read what is said to it, or the config what is secret
 */
function parseEndpoint(input: string): string | null {
  // What is refused is said back, but for this one.
  if (input.includes('@')) throw new RangeError('must not contain a user or a password: they go into the file of "login"')
  const [, scheme = '', name = '', port = ''] = ENDPOINT.exec(input)?.map((part) => part.toLowerCase()) ?? []
  const isBracketed = name.startsWith('[')
  const address = canonicalAddress(isBracketed ? name.slice(1, -1) : name)
  // A URL reads 127.1 and 0x7f000001 as addresses, too: only what is written out is one here.
  const isName = !isBracketed && !/^(0x[\da-f]*|\d+)$/.test(name.split('.').at(-1) ?? '')
  if (address === null && !isName) return null
  if (Number(port) < 1 || Number(port) > MAX_PORT) return null
  if (scheme === 'http' && name !== 'localhost' && !(address !== null && isLoopback(address)))
    throw new RangeError('https://… (http:// goes to 127.0.0.1, [::1] and localhost only)')
  return `${scheme}://${name}:${Number(port)}`
}

/** Reads a duration as milliseconds: null where it is none that may be. */
function parseTimeout(input: string): number | null {
  const seconds = parseDuration(input)
  return seconds !== null && seconds >= LEAST && seconds <= MOST ? seconds * 1_000 : null
}

const path = v.pipe(v.string(), v.minLength(1, 'a path'))

/** The entries of a fleet. */
const fleetEntries = {
  etcd: v.optional(
    v.pipe(
      v.array(text(parseEndpoint, 'a URL such as "https://10.0.0.1:2379"')),
      v.minLength(1, 'at least one endpoint'),
      v.maxLength(MAX_ENDPOINTS, `at most ${MAX_ENDPOINTS} endpoints`),
    ),
  ),
  prefix: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[\x21-\x7e]*\/$/, 'printable ASCII without spaces that ends with a slash'),
      v.maxLength(MAX_PREFIX, `at most ${MAX_PREFIX} characters`),
    ),
  ),
  timeout: v.optional(text(parseTimeout, `a duration from "${LEAST}s" to "${MOST}s"`)),
  gateway: v.optional(v.pipe(v.string(), v.regex(KEY_ID, KEY_ID_RULE))),
  pinned: v.optional(v.boolean()),
  ca: v.optional(path),
  cert: v.optional(path),
  key: v.optional(path),
  login: v.optional(path),
}

type Entries = v.InferOutput<v.StrictObjectSchema<typeof fleetEntries, undefined>>

const ledgerEntries = v.strictObject({ path: v.optional(path, SERVER_LEDGER), ...fleetEntries })

/** What of them must fit together, where each by itself is right. */
const fitting = v.rawCheck<v.InferOutput<typeof ledgerEntries>>(({ dataset, addIssue }) => {
  if (!dataset.typed || dataset.issues) return
  const { value } = dataset
  const expect = (entry: keyof Entries, message: string) =>
    addIssue({ message, input: value[entry] ?? null, path: leadingTo(value, entry) })
  const { etcd, cert, key, gateway } = value
  const names = Object.keys(fleetEntries) as (keyof Entries)[]
  for (const entry of etcd ? [] : names.filter((name) => value[name] !== undefined))
    expect(entry, 'requires etcd = ["https://…:2379"] in [ledger]')
  if (!etcd) return
  if (cert !== undefined && key === undefined) expect('cert', 'must come with key = "/path" in [ledger]')
  if (key !== undefined && cert === undefined) expect('key', 'must come with cert = "/path" in [ledger]')
  if (gateway === undefined && nameOf(hostname()) === null)
    expect('etcd', 'must come with gateway = "a name for this gateway" in [ledger]: its host has none that would do')
})

/** [ledger] of the config. */
export const ledgerSchema = v.pipe(ledgerEntries, fitting)

/** A gateway's name by its host's; null where nothing of that would do. */
export function nameOf(host: string): string | null {
  const name = host.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '')
  return KEY_ID.test(name.slice(0, 32)) ? name.slice(0, 32) : null
}

/** What the entries come to; null where there is no fleet. @param from the folder from which relative paths start */
export function fleetOf(entries: Entries, from: string): FleetConfig | null {
  const { etcd, prefix = 'knockturn/', timeout = DEFAULT * 1_000, gateway, pinned = false, ca, cert, key, login } = entries
  if (!etcd) return null
  const fileOf = (path: string | undefined) => (path === undefined ? null : resolve(from, path))
  return {
    endpoints: [...new Set(etcd)],
    prefix,
    timeout,
    gateway: gateway ?? nameOf(hostname()) ?? '',
    pinned,
    tls: { ca: fileOf(ca), cert: fileOf(cert), key: fileOf(key) },
    login: fileOf(login),
  }
}
