import { describe, expect, it } from 'vitest'
import {
  hostFor,
  type Kept,
  profileNameOf,
  profileOf,
  stepForKey,
  stepForProfile,
  type There,
} from '../../../src/client/add/plan'
import { asClient, type KeyFile, parseKeyFile } from '../../../src/keys/key-file'
import { Fault } from '../../../src/system/fault'
import { keyText, secretOf } from '../../system/scratch'

const HOST = 'host = "gate.example"\n'
const keyOf = (parts: Parameters<typeof keyText>[0] = {}) =>
  asClient(parseKeyFile('', keyText({ more: HOST, ...parts })).value as KeyFile)
const alice = keyOf()
const faultOf = (act: () => unknown) => {
  try {
    return act()
  } catch (error) {
    return error instanceof Fault ? `${error.message} / ${error.hint}` : error
  }
}

describe('where to knock', () => {
  it("is the key's host, or the one that is named", () => {
    expect([hostFor(alice, undefined), hostFor(alice, '198.51.100.1'), hostFor(alice, '2001:db8::1')]).toEqual([
      'gate.example',
      '198.51.100.1',
      '2001:db8::1',
    ])
  })

  it('has to be named where the key names none', () => {
    expect(faultOf(() => hostFor(keyOf({ more: '' }), undefined))).toBe('the key alice names no host / name the server with -r')
  })

  it.each([
    'gate.example\n  ProxyCommand touch /tmp/x',
    'gate.example; touch x',
    '$(touch x)',
    '-oProxyCommand=x',
    '*',
    '!gate',
    'gate example',
    '"gate"',
    'gate#',
    'https://gate.example',
    'gate:22',
    'gate.exam%ple',
    'g\u200bate',
    'a'.repeat(300),
  ])('is no text that ssh or a shell would read otherwise: %j', (host) => {
    expect(faultOf(() => hostFor(keyOf({ more: `host = ${JSON.stringify(host)}\n` }), undefined))).toMatch(
      /^expected a host name/,
    )
  })
})

describe("a profile's name", () => {
  it.each([
    ['gate.example', 'alice', 'gate.example'],
    ['198.51.100.1', 'alice', '198.51.100.1'],
    ['2001:db8::1', 'alice', 'alice'],
    ['a-gate-with-a-long-name.department.corp.example', 'alice', 'a-gate-with-a-long-name'],
    [`${'a'.repeat(40)}.example`, 'alice', 'alice'],
    ['_gate.example', 'alice', 'alice'],
  ])('of the host %s and the key %s is %s', (host, id, name) => {
    expect(profileNameOf({ host, id })).toBe(name)
  })
})

describe('a profile', () => {
  const services = (list: string) => keyOf({ more: `${HOST}services = [${list}]\n`, grant: '' })

  it.each<[string, KeyFile, object]>([
    ['what the key opens', services('"22/tcp", "443/tcp"'), { services: '22/tcp,443/tcp', wait: true }],
    ['a wait where a connection shows it alone', services('"53/udp"'), { services: '53/udp' }],
    ['no services where the key tells none', keyOf({ grant: '' }), { wait: true }],
    [
      'one knock for more services than knocks may be',
      services(Array.from({ length: 17 }, (_, i) => `"${i + 1}/tcp"`).join()),
      { services: '0' },
    ],
  ])('has %s', (_, key, has) => {
    expect(profileOf(key, 'gate.example', 'alice')).toEqual({ host: 'gate.example', key: 'alice', ...has })
  })

  const given = { host: 'gate.example', key: 'alice', services: '22/tcp', wait: true } as const
  it.each([
    ['new where there is none', undefined, false, 'new'],
    ['kept where it says the same', { ...given }, false, 'kept'],
    ['kept where it says the same, even if it might be replaced', { ...given }, true, 'kept'],
    ["kept where only its user's own options differ", { ...given, time: '1h', services: '443/tcp' }, false, 'kept'],
    ['replaced where that is wanted', { ...given, key: 'bob' }, true, 'replaced'],
  ] as const)('is %s', (_, there, isWanted, step) => {
    expect(stepForProfile('config.toml', 'gate', given, there, isWanted)).toBe(step)
  })

  it.each([
    ['key', { ...given, key: 'bob' }],
    ['host', { ...given, host: 'other.example' }],
  ])('is not written over one with another %s', (_, there) => {
    expect(faultOf(() => stepForProfile('config.toml', 'gate', given, there, false))).toBe(
      'config.toml: another profile is called "gate" / replace it with --replace, or name this one with --profile',
    )
  })
})

describe('a key', () => {
  const plain = (key: KeyFile): There => ({ kind: 'plain', path: 'alice.key', key })
  const bytes = Buffer.from('sealed')
  const sealed: There = { kind: 'sealed', path: 'alice.key.age', bytes }
  const unreadable: There = { kind: 'unreadable', path: 'alice.key', fault: new Fault('alice.key: is not UTF-8 text') }
  const kept = (more: Partial<Kept> = {}): Kept => ({ key: alice, sealed: null, staysSealed: false, ...more })
  const [same, older] = [plain({ ...alice, created: 1 }), plain(keyOf({ secret: secretOf(2) }))]
  const elsewhere = plain(keyOf({ server: 'other.example' }))

  it.each<[string, Kept, There | null, boolean, string]>([
    ['new where there is none', kept(), null, false, 'new'],
    ['kept where the same is there, whenever it was made', kept(), same, false, 'kept'],
    ['kept where the same age file is there', kept({ sealed: bytes }), sealed, false, 'kept'],
    ['kept under its passphrase where it is there', kept({ sealed: bytes, staysSealed: true }), sealed, false, 'kept'],
    ['replaced where that is wanted', kept(), older, true, 'replaced'],
    ['replaced where that is under a passphrase', kept(), sealed, true, 'replaced'],
    ['replaced where that cannot be read', kept(), unreadable, true, 'replaced'],
    ['replaced by itself under its passphrase', kept({ sealed: bytes, staysSealed: true }), same, true, 'replaced'],
  ])('is %s', (_, one, there, isWanted, step) => {
    expect(stepForKey(one, there, isWanted, 'gate.example')).toBe(step)
  })

  const replace = 'replace it with --replace, which keeps it as'
  const other = 'add this one under another name: --as gate.example'
  it.each<[string, Kept, There, boolean, string]>([
    [
      'of this server',
      kept(),
      older,
      false,
      `alice.key: another key of this server has this name / ${replace} alice.key.old; or ${other}`,
    ],
    [
      'of another server, whatever is wanted',
      kept(),
      elsewhere,
      true,
      `alice.key: a key of another server, "other.example", has this name / ${other}`,
    ],
    [
      'that is under a passphrase',
      kept({ sealed: Buffer.from('another') }),
      sealed,
      false,
      `alice.key.age: a key under a passphrase has this name / ${replace} alice.key.age.old; or ${other}`,
    ],
    ['that cannot be read', kept(), unreadable, false, `alice.key: is not UTF-8 text / ${replace} alice.key.old; or ${other}`],
    [
      'that is the same without its passphrase',
      kept({ sealed: bytes, staysSealed: true }),
      same,
      false,
      `alice.key: the key is there without a passphrase / ${replace} alice.key.old; or ${other}`,
    ],
  ])('is not written over one %s', (_, one, there, isWanted, fault) => {
    expect(faultOf(() => stepForKey(one, there, isWanted, 'gate.example'))).toBe(fault)
  })
})
