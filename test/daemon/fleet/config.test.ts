import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readConfig } from '../../../src/daemon/config'
import { nameOf } from '../../../src/daemon/fleet/config'
import { inOneLine } from '../../../src/system/fault'
import { put, scratch } from '../../system/scratch'

const ETCD = 'etcd = ["https://10.0.0.1:2379"]'
const config = (...lines: string[]) => put(scratch(), 'knockturn.toml', ['server = ""', '[ledger]', ...lines].join('\n'))
async function fleetOf(...lines: string[]) {
  const { value, faults } = await readConfig(config(...lines))
  if (!value) throw faults[0]
  return value.ledger.fleet
}
const faultsOf = async (...lines: string[]) =>
  ((await readConfig(config(...lines))).faults ?? []).map((fault) => inOneLine(fault).replace(/^.*knockturn\.toml:/, ''))

describe('the fleet of a config', () => {
  it('is none where no etcd is named', async () => {
    expect(await fleetOf('path = "/ledger"')).toBeNull()
  })

  it('has the documented defaults', async () => {
    expect(await fleetOf(ETCD, 'gateway = "gw1"')).toEqual({
      endpoints: ['https://10.0.0.1:2379'],
      prefix: 'knockturn/',
      timeout: 5_000,
      gateway: 'gw1',
      pinned: false,
      tls: { ca: null, cert: null, key: null },
      login: null,
    })
  })

  it('gives all that it says, with paths from its own folder', async () => {
    const file = config(
      'etcd = ["https://etcd1.example:2379/", "HTTPS://[2001:DB8::1]:02379", "https://etcd1.example:2379"]',
      'prefix = "doors/of/ours/"',
      'timeout = "30s"',
      'gateway = "gw.2"',
      'pinned = true',
      'ca = "tls/ca.pem"',
      'cert = "tls/gw.pem"',
      'key = "/keys/gw.key"',
      'login = "login"',
    )
    const folder = dirname(file)
    expect((await readConfig(file)).value?.ledger.fleet).toEqual({
      endpoints: ['https://etcd1.example:2379', 'https://[2001:db8::1]:2379'],
      prefix: 'doors/of/ours/',
      timeout: 30_000,
      gateway: 'gw.2',
      pinned: true,
      tls: { ca: join(folder, 'tls/ca.pem'), cert: join(folder, 'tls/gw.pem'), key: '/keys/gw.key' },
      login: join(folder, 'login'),
    })
  })

  it.each(['http://127.0.0.1:2379', 'http://127.8.9.10:2379', 'http://[::1]:2379', 'http://localhost:2379'])(
    'may be asked in the clear on this machine: %s',
    async (endpoint) => {
      expect((await fleetOf(`etcd = ["${endpoint}"]`))?.endpoints).toEqual([endpoint])
    },
  )

  it.each([
    'http://10.0.0.1:2379',
    'http://etcd1.example:2379',
    'http://127.0.0.1.example:2379',
    'http://localhost.example:2379',
    'http://[2001:db8::1]:2379',
    'http://[::ffff:10.0.0.1]:2379',
  ])('is never asked in the clear on another machine: %s', async (endpoint) => {
    expect(await faultsOf(`etcd = ["${endpoint}"]`)).toEqual([
      `3: "ledger.etcd" expected https://… (http:// goes to 127.0.0.1, [::1] and localhost only), got "${endpoint}"`,
    ])
  })

  it.each([
    'https://10.0.0.1',
    'https://10.0.0.1:0',
    'https://10.0.0.1:65536',
    'https://10.0.0.1:2379/v3',
    'https://10.0.0.1:2379?a=b',
    'https://[10.0.0.1]:2379',
    'https://[::1:2379',
    'https://10.0.0.256:2379',
    'http://127.1:2379',
    'http://0x7f000001:2379',
    'http://127.0.0.0x1:2379',
    'http://2130706433:2379',
    'unix:///run/etcd',
    '10.0.0.1:2379',
    '',
  ])('is at no %s', async (endpoint) => {
    expect(await faultsOf(`etcd = ["${endpoint}"]`)).toEqual([
      `3: "ledger.etcd" expected a URL such as "https://10.0.0.1:2379", got ${JSON.stringify(endpoint)}`,
    ])
  })

  it('never says a password back', async () => {
    expect(await faultsOf('etcd = ["https://root:hunter2@10.0.0.1:2379"]')).toEqual([
      '3: "ledger.etcd" must not contain a user or a password: they go into the file of "login"',
    ])
  })

  it.each([
    ['etcd = []', '"ledger.etcd" expected at least one endpoint, got []'],
    ['etcd = "https://10.0.0.1:2379"', '"ledger.etcd" expected an array, got "https://10.0.0.1:2379"'],
    [
      `etcd = [${Array.from({ length: 17 }, (_, i) => `"https://10.0.0.${i}:1"`).join(', ')}]`,
      expect.stringContaining('"ledger.etcd" expected at most 16 endpoints, got ['),
    ],
  ])('names its endpoints in a list of a length that may be: %s', async (line, fault) => {
    const [found, ...more] = await faultsOf(line)
    expect([found.replace(/^\d+: /, ''), more]).toEqual([fault, []])
  })

  it.each([
    ['prefix = "knockturn"', '"ledger.prefix" expected printable ASCII without spaces that ends with a slash, got "knockturn"'],
    ['prefix = "a b/"', '"ledger.prefix" expected printable ASCII without spaces that ends with a slash, got "a b/"'],
    ['prefix = ""', '"ledger.prefix" expected printable ASCII without spaces that ends with a slash, got ""'],
    [`prefix = "${'a'.repeat(128)}/"`, expect.stringContaining('"ledger.prefix" expected at most 128 characters')],
    ['timeout = "0s"', '"ledger.timeout" expected a duration from "1s" to "30s", got "0s"'],
    ['timeout = "31s"', '"ledger.timeout" expected a duration from "1s" to "30s", got "31s"'],
    ['timeout = 5', '"ledger.timeout" expected a string, got 5'],
    ['gateway = "gw 1"', expect.stringContaining('"ledger.gateway" expected 1 to 32 letters')],
    ['pinned = "yes"', '"ledger.pinned" expected true or false, got "yes"'],
    ['ca = ""', '"ledger.ca" expected a path, got ""'],
    ['cert = "gw.pem"', '"ledger.cert" must come with key = "/path" in [ledger]'],
    ['key = "gw.key"', '"ledger.key" must come with cert = "/path" in [ledger]'],
    ['password = "hunter2"', '"ledger.password"'],
  ])('is refused with %s', async (line, fault) => {
    const [found, ...more] = await faultsOf(ETCD, line)
    expect(more).toEqual([])
    expect(found).toEqual(typeof fault === 'string' ? `4: ${line.startsWith('password') ? 'unknown entry ' : ''}${fault}` : fault)
  })

  it.each([
    'prefix = "knockturn/"',
    'timeout = "5s"',
    'gateway = "gw1"',
    'pinned = false',
    'ca = "ca"',
    'cert = "a"',
    'key = "a"',
    'login = "a"',
  ])('is refused without etcd: %s', async (line) => {
    expect(await faultsOf(line)).toEqual([`3: "ledger.${line.split(' ')[0]}" requires etcd = ["https://…:2379"] in [ledger]`])
  })
})

describe('a gateway is called like its host', () => {
  it.each([
    ['gw1', 'gw1'],
    ['gw1.example.com', 'gw1.example.com'],
    ['-my host (old)', 'my-host-old-'],
    ['g'.repeat(63), 'g'.repeat(32)],
  ])('%j as %j', (host, name) => {
    expect(nameOf(host)).toBe(name)
  })

  it.each(['', '(none)'.replace('none', ''), '日本'])('unless nothing of its name would do: %j', (host) => {
    expect(nameOf(host)).toBeNull()
  })
})
