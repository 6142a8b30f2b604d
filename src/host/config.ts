import { dirname, resolve } from 'node:path'
import * as v from 'valibot'
import type { Cidr } from '../protocol/address'
import { Fault, type Read } from './fault'
import { readText } from './files'
import { cidr, serverLabel } from './key-file'
import { SERVER_KEYS } from './keyring'
import { readToml } from './toml'

export const SERVER_CONFIG = '/etc/knockturn/knockturn.toml'
const SERVER_LEDGER = '/var/lib/knockturn/ledger'
/** Longest config in bytes. */
const MAX_CONFIG = 64 * 1024
/** Largest skew (docs/protocol.md, "Constants"). */
const MAX_SKEW = 10
/** Longest log prefix that the kernel's NFLOG and LOG targets both take. */
const MAX_PREFIX = 29

/** The daemon's config. Paths are absolute. */
export interface Config {
  readonly server: string
  readonly keys: string
  readonly skew: number
  readonly neverLock: readonly Cidr[]
  readonly taps: { readonly source: 'nflog' | 'stdin'; readonly group: number; readonly prefix: string }
  readonly firewall: { readonly backend: 'iptables' | 'dry-run' }
  readonly ledger: { readonly path: string }
}

const whole = (low: number, high: number) => {
  const rule = `a whole number from ${low} to ${high}`
  return v.pipe(v.number(), v.integer(rule), v.minValue(low, rule), v.maxValue(high, rule))
}
const path = v.pipe(v.string(), v.minLength(1, 'a path'))

const schema = v.strictObject({
  server: serverLabel,
  keys: v.optional(path, SERVER_KEYS),
  skew: v.optional(whole(0, MAX_SKEW), 1),
  never_lock: v.optional(v.array(cidr), []),
  taps: v.optional(
    v.strictObject({
      source: v.optional(v.picklist(['nflog', 'stdin'], '"nflog" or "stdin"'), 'nflog'),
      group: v.optional(whole(0, 65535), 5),
      prefix: v.optional(
        v.pipe(
          v.string(),
          v.regex(/^[\x21-\x7e][\x20-\x7e]*$/, 'printable ASCII'),
          v.maxLength(MAX_PREFIX, `at most ${MAX_PREFIX} characters`),
        ),
        'KNOCK: ',
      ),
    }),
    {},
  ),
  firewall: v.optional(
    v.strictObject({ backend: v.optional(v.picklist(['iptables', 'dry-run'], '"iptables" or "dry-run"'), 'iptables') }),
    {},
  ),
  ledger: v.optional(v.strictObject({ path: v.optional(path, SERVER_LEDGER) }), {}),
})

/** What of a faulty config can be followed all the same: its label and the places that it names. */
export async function readPlaces(file: string): Promise<{ server?: string; keys?: string; ledger: { path?: string } }> {
  const loose = v.object({
    server: v.string(),
    keys: v.fallback(v.string(), SERVER_KEYS),
    ledger: v.fallback(v.object({ path: v.string() }), { path: SERVER_LEDGER }),
  })
  const read = await readText(file, MAX_CONFIG, false)
    .then((text) => readToml(file, text, loose))
    .catch(() => null)
  if (!read?.value) return { ledger: {} }
  const from = dirname(resolve(file))
  const { server, keys, ledger } = read.value
  return { server, keys: resolve(from, keys), ledger: { path: resolve(from, ledger.path) } }
}

/**
 * Reads the daemon's config; relative paths in it start from its folder.
 * @returns the config, or every fault in it with file and line
 */
export async function readConfig(file: string): Promise<Read<Config>> {
  let text: string
  try {
    text = await readText(file, MAX_CONFIG, false)
  } catch (error) {
    if (error instanceof Fault) return { faults: [error] }
    throw error
  }
  const read = readToml(file, text, schema)
  if (read.faults) return read
  const { server, keys, skew, never_lock, taps, firewall, ledger } = read.value
  const from = dirname(resolve(file))
  return {
    value: {
      server,
      keys: resolve(from, keys),
      skew,
      neverLock: never_lock,
      taps,
      firewall,
      ledger: { path: resolve(from, ledger.path) },
    },
  }
}
