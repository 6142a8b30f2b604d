import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Status } from '../../src/admin/status'
import { documentOf as fleetDocument } from '../../src/cli/admin/fleet-words'
import { documentOf } from '../../src/cli/admin/status'
import type { StateFleet } from '../../src/daemon/state/fleet'
import type { State } from '../../src/daemon/state/state'
import { type KeyFile, parseKeyFile } from '../../src/keys/key-file'
import { windowAt } from '../../src/protocol/key'
import { compose } from '../../src/protocol/knock'
import { stateWith } from '../admin/explain/daemon-state'
import { placeOf, word } from '../admin/fleet/place'
import { packetsTo, pcap } from '../admin/replay/recordings'
import { section } from '../man'
import { keyText, put, scratch } from '../system/scratch'
import { run } from './programs'

/* What is printed as JSON is described in the manual, field by field. */

const page = (name: string) => readFileSync(join(import.meta.dirname, '../../docs/man', name), 'utf8')
const KNOCKTURN = page('knockturn.1')
/** A part of a section, from its heading or tag to the next heading. */
const part = (text: string, from: string, to: string) => {
  const start = text.indexOf(from)
  expect([from, start >= 0]).toEqual([from, true])
  return text.slice(start, text.indexOf(to, start + from.length))
}
const jsonPart = (from: string) => part(`${section(KNOCKTURN, 'JSON')}\n.SS end`, from, '\n.SS')
const option = (from: string) => part(section(KNOCKTURN, 'OPTIONS'), `.IP\nWith\n.BR ${from} :`, '\n.IP\nWith\n')

/** The words that a text sets in italics, as it does with the names of fields. */
const named = (text: string) =>
  new Set([...text.matchAll(/^\.(I|IR|RI) (.*)$/gm)].flatMap(([, , words]) => words.match(/[A-Za-z]\w*/g) ?? []))

/** The names of a document's fields, of all that is in it. @param but those whose content is described elsewhere */
function fieldsOf(value: unknown, but: readonly string[] = []): string[] {
  if (Array.isArray(value)) return value.flatMap((one) => fieldsOf(one, but))
  if (value === null || typeof value !== 'object') return []
  return Object.entries(value).flatMap(([name, one]) => [name, ...(but.includes(name) ? [] : fieldsOf(one, but))])
}
const missing = (document: unknown, text: string, ...but: string[]) => {
  const names = named(text)
  const fields = [...new Set(fieldsOf(document, but))]
  expect(fields.length).toBeGreaterThan(3)
  return fields.filter((field) => !names.has(field))
}

const AT = '2026-11-30T12:00:00Z'
const WHOSE = { id: 'deadbeef', key: 'alice', fingerprint: 'f'.repeat(32), address: '198.51.100.7' }
const LEASE = { ...WHOSE, service: '22/tcp', once: false, opened: AT, until: AT }
const USE = { at: AT, source: '198.51.100.7', action: 'open' }
const STATE: State = {
  ...stateWith(keyText(), '/var/lib/knockturn/ledger'),
  lastKnock: { ...USE, key: 'alice', outcome: 'accepted' },
  keys: [{ id: 'alice', fingerprint: WHOSE.fingerprint, expires: AT, services: ['22/tcp'], lastUse: { ...USE, windowsOff: 1 } }],
  day: { since: AT, accepted: 1, refused: { stale: 1 }, taps: 1, dropped: 0, busiest: { at: AT, taps: 1 } },
}
const STATUS: Status = {
  config: { file: '/etc/knockturn/knockturn.toml', server: 'gate.example', backend: 'nftables', source: 'nflog' },
  ...{ life: 'alive', state: STATE, written: 0, by: 'daemon', leases: [LEASE], locks: [{ ...WHOSE, until: AT }], faults: [] },
  guard: { ports: ['22/tcp'], isLoaded: true, isPermanent: true },
}

const BASE = { fleet: '', server: '', epoch: 1, seconds: 0, ahead: 1 }
const GATEWAY = { name: '', modified: 1, said: word({ lastTap: 0 }), keys: [], speaks: true, offset: 0 }
const FLEET: StateFleet = {
  ...{
    gateway: '',
    fleet: '',
    epoch: 1,
    base: { seconds: 0, ahead: 0 },
    link: null,
    since: AT,
    clocks: null,
    synchronised: null,
    revoked: [],
    size: 0,
    quota: 0,
    alarms: [],
  },
  gateways: [{ name: '', at: AT, offset: 0, synchronised: null, life: '' }],
}

const TEXT = keyText({ id: 'alice', grant: 'services = ["22/tcp"]' })
/** A config, a keyring, a state and a recording of a knock that is sent now. */
function place() {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  put(join(folder, 'keys'), 'alice.key', TEXT)
  const ledger = put(folder, 'ledger', 'knockturn-ledger 1 0000000000000036\n')
  put(folder, 'state.json', JSON.stringify(stateWith(TEXT, ledger)), 0o640)
  const { key } = parseKeyFile('', TEXT).value as KeyFile
  const request = { action: 'open', protocol: 'tcp', once: false, salt: 0, port: 22, seconds: 60, address: '0.0.0.0' } as const
  const touches = compose(key, windowAt(Date.now() / 1000, key.period), request)
  const recording = put(folder, 'knocks.pcap', pcap(packetsTo(touches, Date.now())))
  const text =
    'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n'
  return { config: put(folder, 'knockturn.toml', text), recording }
}
const printed = async (program: 'knockturn' | 'knockclient', args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
  const { stdout } = await run(program, [...args, '--json'], { env })
  return JSON.parse(stdout)
}

describe('the manual describes each field of', () => {
  it('status', () => {
    const both = `${jsonPart('Times are')}${jsonPart('.SS "lease list')}${jsonPart('status\n')}`
    // The words of refusals are in knockdaemon(8).
    const inFleet = { ...STATUS, state: { ...STATE, fleet: FLEET } }
    expect(missing(documentOf(inFleet, 0), both, 'refused')).toEqual([])
  })

  it('fleet status', async () => {
    const place = await placeOf()
    const shared = { base: { base: { ...BASE, fleet: '' }, value: '' }, gateways: [GATEWAY], leases: 1, locks: 1, revoked: 1 }
    const more = { memory: null, differences: [{ fingerprint: '', at: [], notAt: [] }], members: await place.etcd.status() }
    const document = fleetDocument({ ...more, shared: { ...shared, header: place.etcd.store.header }, faults: [] }, place, 0)
    const both = `${jsonPart('Times are')}${jsonPart('.SS "fleet status"')}${jsonPart('status\n')}`
    expect(missing(document, both)).toEqual([])
  })

  it('lease list and lock list', () => {
    const lists = [
      { by: 'daemon', leases: [LEASE], closed: [LEASE] },
      { locks: [{ ...WHOSE, until: AT }], removed: [] },
    ]
    expect(missing(lists, jsonPart('.SS "lease list'))).toEqual([])
  })

  it('explain', async () => {
    const { config } = place()
    const document = await printed('knockturn', ['explain', 'alice', '--from', '203.0.113.9', '--config', config])
    const text = section(KNOCKTURN, 'COMMANDS')
    expect(missing(document, part(text, '.BI "explain ', '\n.SS'))).toEqual([])
  })

  it('replay, of a knock', async () => {
    const { config, recording } = place()
    const document = await printed('knockturn', ['replay', recording, '--config', config])
    expect(document.sources[0].heard).toMatchObject([{ kind: 'knock', outcome: 'accepted' }])
    // A line of the log is described in knockdaemon(8).
    expect(missing(document, option('replay'), 'line')).toEqual([])
  })

  it('knockclient doctor', async () => {
    const home = scratch()
    mkdirSync(join(home, 'knockturn', 'keys'), { recursive: true, mode: 0o700 })
    put(join(home, 'knockturn'), 'keys/alice.key', keyText({ more: 'host = "127.0.0.1"\n', grant: '' }))
    const document = await printed('knockclient', ['doctor'], { XDG_CONFIG_HOME: home })
    expect(missing(document, page('knockclient.1'))).toEqual([])
  })
})
