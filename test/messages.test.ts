import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { plain, section, tags } from './man'
import { isNamedBy, type Kind, Messages } from './messages'
import { put, scratch } from './system/scratch'

/* Every line of the log, warning, note and error of our programs is in a manual page, and no page has one that there is not. */

const ROOT = join(import.meta.dirname, '..')
const readPage = (name: string) => readFileSync(join(ROOT, 'docs/man', name), 'utf8')
const MESSAGES = new Messages(join(ROOT, 'src'))

interface Documented {
  readonly program: string
  /** Where its messages come from: files and folders of src. */
  readonly from: readonly string[]
  /** Those of them that another program alone prints. */
  readonly but?: readonly string[]
  /** Where a list has the messages of a kind: a section, or `section/part of it`. More than one page may have them. */
  readonly pages: Readonly<Record<string, Readonly<Partial<Record<Kind, string>>>>>
  /** How many messages of each kind there are at least; there are none of another kind. */
  readonly least: Readonly<Partial<Record<Kind, number>>>
  /** Calls that pass on a message which is another's, or is chosen by what is not seen where it is printed. */
  readonly passed: readonly string[]
  /** Messages that are chosen so, or are another file's, of which the program prints only some: see {@link Messages.chosen}. */
  readonly chosen: Readonly<Partial<Record<Kind, readonly (readonly [file: string, what: string])[]>>>
}

/** Messages of one file, chosen one by one. */
const of = (file: string, ...texts: readonly string[]) => texts.map((text) => [file, text] as const)

const PROGRAMS: readonly Documented[] = [
  {
    program: 'knockdaemon',
    from: [
      'daemon',
      'gate',
      'cli/knockdaemon.ts',
      ...['begin-again', 'commands', 'core-dumps', 'files', 'time', 'toml'].map((name) => `system/${name}.ts`),
    ],
    but: ['iptables/installation', 'sockets', 'nftables/installation', 'ledger/rebase', 'state/state'].map(
      (name) => `daemon/${name}.ts`,
    ),
    pages: {
      'knockdaemon.8': { log: 'LOG', fault: 'DIAGNOSTICS' },
      'knockturn.toml.5': { fault: 'DIAGNOSTICS' },
    },
    passed: [
      'cli/knockdaemon.ts: evidence',
      'daemon/ahead.ts: message',
      'daemon/backends/iptables-guard.ts: [message]',
      'daemon/backends/iptables-guard.ts: await whoIsCutOff(rules.taps?.ranges ?? [], (peer) => remedyFor(tables, isGuarding, peer), isUnattended)',
      'daemon/config.ts: error.message',
      'daemon/doors/ends.ts: why',
      'daemon/exposure/watch.ts: line',
      'daemon/fleet/taking.ts: message',
      'daemon/orders/orders.ts: message',
      'daemon/reload.ts: line',
      'daemon/reload.ts: reason(error)',
      'daemon/serve.ts: reason(error)',
      'daemon/server-keys.ts: `{folder}: {reason(error)}`',
      'daemon/taps/file.ts: inOneLine(explain(this.#path, error))',
      'daemon/taps/file.ts: message',
      "system/commands.ts: `{command} {args.slice(0, SHOWN_ARGS).join(' ')}: {line || 'it failed'}`",
      'system/files.ts: path',
      'system/toml.ts: `{path}:{error.line}: {message}`',
      'system/toml.ts: describe(path, text, issue, secrets)',
    ],
    least: { log: 21, fault: 21 },
    chosen: {
      log: [
        ...of('daemon/ahead.ts', 'ownAhead', 'baseAhead'),
        ...of(
          'daemon/iptables/unheard.ts',
          'the log rules do not cover the pools of all keys: …',
          'the log rules do not cover the passcode ports: …',
          'the log rules do not match [datagram] ports: …',
        ),
        ...of('gate/leases.ts', 'closed', 'closed for the fleet', 'expired'),
      ],
    },
  },
  {
    program: 'knockturn',
    from: [
      'admin',
      'cli/admin',
      'keys',
      'cli/meant.ts',
      ...['iptables/installation', 'sockets', 'nftables/installation', 'ledger/rebase', 'state/state'].map(
        (name) => `daemon/${name}.ts`,
      ),
      ...['begin-again', 'commands', 'core-dumps', 'files', 'sure-folder', 'terminal', 'time'].map((name) => `system/${name}.ts`),
    ],
    // Only a client reads a key under a passphrase, or a line.
    but: ['keys/sealed-key.ts', 'keys/key-line.ts'],
    pages: { 'knockturn.1': { log: 'DIAGNOSTICS/Warnings', note: 'DIAGNOSTICS/Notes', fault: 'DIAGNOSTICS' } },
    least: { log: 11, note: 1, fault: 51 },
    passed: [
      'admin/firewall.ts: [message]',
      'admin/firewall.ts: await servicesInPool(taps)',
      'admin/fleet/standing.ts: fault',
      'admin/fleet/status.ts: `{endpoint}: {fault}`',
      'admin/fleet/status.ts: `{endpoint}: {message}`',
      'admin/replay/recording.ts: `{name}: {reason(error)}`',
      'admin/replay/replay.ts: inOneLine(fault)',
      'admin/setup/decide.ts: found.why',
      'admin/setup/setup.ts: inOneLine(error)',
      'admin/setup/setup.ts: note',
      'admin/setup/trial.ts: lines.find((line) => !line.startsWith(HINT)) ?? shortMessage ?? `{SCRIPT}: failed`',
      'admin/tap-rules.ts: inOneLine(fault)',
      'cli/admin/firewall.ts: await exposedServices(config)',
      'cli/admin/firewall.ts: notes',
      'cli/admin/lease.ts: left',
      'cli/admin/lease.ts: spared',
      'cli/admin/replay.ts: faults',
      'cli/admin/voice.ts: line',
      'daemon/iptables/installation.ts: [message]',
      'daemon/iptables/installation.ts: await whoIsCutOff(taps.ranges, (peer) => remedyFor(tables, isConnected, peer), isUnattended)',
      'daemon/iptables/installation.ts: await shutByPool(tables, taps)',
      'daemon/sockets.ts: risks[0]',
      'daemon/state/state.ts: error.message',
      'daemon/state/state.ts: folder',
      'daemon/nftables/installation.ts: await whoIsCutOff(rules.taps?.ranges ?? [], () => (isTracked ? null : TRACK), isUnattended)',
      'keys/keyring.ts: `{path}: {reason(error)}`',
      'keys/keyring.ts: `{unseen}: {message}`',
      'keys/keyring.ts: faults[0].message',
      'keys/keyring.ts: reason(error)',
      "system/commands.ts: `{command} {args.slice(0, SHOWN_ARGS).join(' ')}: {line || 'it failed'}`",
      'system/files.ts: path',
      'system/sure-folder.ts: path',
    ],
    chosen: {
      log: [
        ...of(
          'admin/setup/listeners.ts',
          '… lines of ss cannot be read: what they are about is left out',
          'cannot tell which ports … publishes: …',
          'cannot tell at which ports WireGuard listens: …',
          'more than … services listen: the rest is left out',
        ),
        ...of(
          'admin/connections.ts',
          'connections from … to … go on: leases of … are still open there',
          'this session (from … to …) goes on: end it yourself',
          '… connections could not be ended: the kernel may lack INET_DIAG_DESTROY',
          'what goes on at … cannot be ended: conntrack is not installed',
          'what goes on at … cannot be ended: …',
          'cannot tell whether connections to … go on behind this host: conntrack is not installed',
        ),
        ...of(
          'admin/setup/proposal.ts',
          '… (…) lies where knocks come in: the key does without that port',
          '… (…) lies where knocks come in, and will be closed',
          'a key opens at most … services: … others are left out',
          '… is not guarded: everyone reaches it, with or without a knock',
        ),
        ...of('admin/setup/plan.ts', "… differs from this version's, and stays as it is"),
        ...of('admin/exposure.ts', 'cannot tell whether the services are open to everyone: …'),
        ...of(
          'daemon/iptables/installation.ts',
          '…: the rule "…" accepts ports of the pool, but no new connection from outside will reach them: make keys with another pool, or move the service',
        ),
        ...of('daemon/exposure/text.ts', '… is open to everyone ……', 'cannot tell whether … is open to everyone …: …'),
        ...of('daemon/exposure/look.ts', 'cannot tell ……: …'),
        ...of(
          'daemon/exposure/blocked.ts',
          '… is not guarded: Knockturn keeps nobody from it',
          "the guard is not in place: nothing of Knockturn's keeps anybody from the guarded ports",
          'no lease opens …: …',
          'cannot tell whether a lease opens …: …',
        ),
        ...of('daemon/exposure/spared.ts', 'strangers reach the guarded ports: guard_except spares "…"'),
        ...of(
          'daemon/iptables/trial.ts',
          'the kernel cannot mark connections (no match "connlabel"): whoever had a lease can reconnect from the same source port after it has ended',
        ),
        ...of('daemon/sockets.ts', 'port …/… is in use and …: no new connection from outside will reach it'),
        ...of('daemon/iptables/table.ts', 'this machine has no IPv6: ip6tables is not used (…)'),
        ...of('daemon/iptables/table.ts', 'iptables cannot read a rule in chain …'),
        ...of('daemon/iptables/table.ts', 'iptables cannot read a rule of the table: look at it with "nft -a list table …"'),
      ],
      fault: [
        ...of(
          'admin/setup/entered.ts',
          'this session has not come in by SSH',
          '… is not established',
          '… was there before the trial',
          '… has not come in through a lease',
        ),
        ...of(
          'cli/admin/enrol.ts',
          'the code does not have … digits',
          "the code is … this machine's clock",
          'the code does not match this key',
        ),
        ...of('cli/options.ts', '… expected …, got …', '<id> expected …, got …'),
        ...of('daemon/fleet/health.ts', 'etcd complains: …', 'etcd has used half of its quota'),
        ...of('keys/key-line.ts', 'the key is too long for a line: expected at most … characters, got …'),
        ...of('keys/keyring.ts', 'the daemon cannot use …', 'the daemon does not see that … is revoked'),
        ...of('keys/passcode-table.ts', 'the daemon does not see the new passcode of …', 'the daemon still sees a passcode of …'),
        ...of(
          'daemon/sockets.ts',
          '… uses a service in the pool, which would be closed: move the service, or make keys with another pool',
          '… might be cut off: first run "…"',
        ),
      ],
    },
  },
  {
    program: 'knockclient',
    from: [
      'client',
      'cli/client',
      'cli/meant.ts',
      'keys/sealed-key.ts',
      ...['core-dumps', 'terminal', 'time'].map((name) => `system/${name}.ts`),
    ],
    pages: {
      'knockclient.1': { log: 'DIAGNOSTICS/Warnings', note: 'DIAGNOSTICS/Notes', fault: 'DIAGNOSTICS' },
    },
    least: { log: 7, note: 21, fault: 71 },
    passed: [
      'cli/client/add.ts: message',
      'cli/client/connect.ts: note',
      'cli/client/exec.ts: note',
      'cli/client/knock.ts: note',
      'cli/client/unopened.ts: `{placeOf(host, address)} {outcomesOf(result.outcomes, wait ?? 0)}`',
      'cli/client/unopened.ts: note',
      'cli/client/unopened.ts: seen',
      'client/add/plan.ts: there.fault.message',
      'client/ask.ts: `{name}: {error.message}`',
      'client/ask.ts: `{url.origin}: {why}`',
      'client/client-key.ts: reason(error)',
      'client/open-for.ts: error.message',
      'client/own-address.ts: error.message',
      'client/place.ts: error.message',
      'client/profiles.ts: `{path}: {failure}`',
    ],
    chosen: {
      log: of(
        'client/diagnosis.ts',
        'something on the path answers every connection: an answer proves nothing, and the knock may not have got through',
        'the ports of the knock are rejected at once, and a server that hears knocks is silent there',
      ),
      note: of('client/either.ts', 'familyToUse'),
      fault: [
        ...of('cli/options.ts', '… expected …, got …', '… requires …'),
        ...of(
          'keys/key-line.ts',
          'the line is cut off, or has characters in it that were not printed',
          'the end of the line is missing',
          'the line is not as it was printed: a character is wrong or missing',
        ),
        ...of(
          'cli/client/outcome.ts',
          'has not answered within … s',
          'refuses connections',
          'answers, and so do the closed ports of the knock: something on the path answers for the server',
        ),
        ...of(
          'client/ask.ts',
          'no answer within … s',
          'cannot be asked: …',
          'expected the status 200, got …',
          'expected at most … bytes, got more',
        ),
        ...of(
          'client/profiles.ts',
          'cannot add the profile "…" without changing the rest of the file',
          'cannot remove the profile "…" without changing the rest of the file',
        ),
        ...of('keys/keyring.ts', '…: the keyring cannot be read: …', '…: id expected "…", got "…"'),
        ...of(
          'system/files.ts',
          '…: already exists and is not overwritten',
          '…: cannot be read: …',
          '…: is not UTF-8 text',
          '…: is not a regular file',
          '…: expected at most … bytes, got …',
          '…: expected mode 0…, got 0…',
          '…: expected owner … (you) or root, got …',
          '…: users other than its owner may write it (mode 0…)',
        ),
      ],
    },
  },
]

function filesIn(name: string): string[] {
  const path = join(ROOT, 'src', name)
  if (!statSync(path).isDirectory()) return [name]
  const files = readdirSync(path, { recursive: true, encoding: 'utf8' })
  return files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts')).map((file) => join(name, file))
}

/** What the lists of a page name of one kind; a section has there what is in no part of it that another kind has. */
function tagsOf(page: string, places: Readonly<Partial<Record<Kind, string>>>, kind: Kind): string[] {
  const [heading, part] = places[kind]?.split('/') ?? []
  if (heading === undefined) return []
  const parts = section(page, heading).split(/^\.SS /m)
  const titleOf = (text: string) => text.split('\n')[0]
  const isOthers = (text: string) => Object.values(places).includes(`${heading}/${titleOf(text)}`)
  const own = parts.filter((text) => (part === undefined ? !isOthers(text) : titleOf(text) === part))
  return own.flatMap((text) => tags(text).map((tag) => plain(tag)))
}

describe('what a source file says', () => {
  const said = (text: string) => {
    const folder = scratch()
    put(folder, 'a.ts', text)
    const { messages, escapes } = new Messages(folder).of(['a.ts'])
    return [...messages.map(({ kind, text }) => `${kind}: ${text}`), ...escapes]
  }

  it.each([
    ["log.error(\n  { a },\n  'over\\n' +\n    'lines',\n)", ['log: over\nlines']],
    [`const X = "it" as string\nthis.#log.warn(\`\${X} is \${x}\`)`, ['log: it is …']],
    ["log.info({}, is ? 'one' : 'two')", ['log: one', 'log: two']],
    ["const warn = (message: string) => log.warn(message)\nwarn('to a helper')", ['log: to a helper']],
    ["const say = (message: string) => log.warn(message)\nsay('to one that nobody knows')", ['a.ts: message']],
    ["function make() {\n  return ['first', ...rest].join(': ')\n}\nthis.#warn(make())", ['log: first: …']],
    ["const ALL = { a: 'one thing', b: 'another' }\nwarn(ALL[which])", ['log: one thing', 'log: another']],
    ["for (const line of [...(is ? ['a line'] : [])]) log.warn(line)", ['log: a line']],
    ["this.#news ||= 'late news'\nlog.warn(this.#news)", ['log: late news']],
    [`throw new UsageFault(\`\${path}: is wrong\`, { hint })`, ['fault: …: is wrong']],
    ["class OwnFault extends Fault {\n  constructor() {\n    super('its own')\n  }\n}", ['fault: its own']],
    ['throw new Fault(error.message)', ['a.ts: error.message']],
    [`const path = \`--key-fd \${fd}\`\nthrow new Fault(\`\${path}: is wrong\`)`, ['fault: …: is wrong']],
    ["complain(NAME, 'it failed', hint)", ['fault: it failed']],
    ['complain(faults)', []],
    ["noteOf(NAME, 'by the way')", ['note: by the way']],
    [
      "function of(): Finding[] {\n  return [{ seen: 'this', unknown: x ? 'that' : 'more', hint }]\n}",
      ['note: this', 'note: that', 'note: more'],
    ],
    ["const state = { seen: 'this' }", []],
  ])('is read from %j', (text, messages) => {
    expect(said(text)).toEqual(messages)
  })

  it.each([
    ['make', ['one of two', 'two of two']],
    ['it is …', ['it is …']],
    ['it is', []],
  ])('gives %j where that is asked for: %j', (what, texts) => {
    const folder = scratch()
    put(folder, 'a.ts', `function make() {\n  return is ? 'one of two' : 'two of two'\n}\nconst line = \`it is \${x}\``)
    expect(new Messages(folder).chosen('a.ts', what)).toEqual(texts)
  })

  it.each([
    ['one line', 'one line', true],
    ['another line', 'one line', false],
    ['one line', 'one line: and what to do', true],
    ['one line: and what', 'one line: and what to do', false],
    ['one line of ... s', 'one line of … s', true],
    ['tcpdump is gone', '… is gone: …', true],
    ['is gone', '…: is gone', true],
    ['gone', '…: is gone', false],
    ['one line', 'one line\n', true],
  ])('is named by %j: %j (%j)', (tag, text, is) => {
    expect(isNamedBy(tag, text)).toBe(is)
  })
})

describe.each(PROGRAMS)('the manual of $program', ({ from, but = [], pages, least, passed, chosen }) => {
  const files = from.flatMap(filesIn).filter((file) => !but.includes(file))
  const { messages, escapes } = MESSAGES.of(files)
  const kinds = Object.keys(least) as Kind[]
  const others = (kind: Kind) => (chosen[kind] ?? []).flatMap(([file, what]) => MESSAGES.chosen(file, what))
  const texts = (kind: Kind) => [
    ...new Set([...messages.filter((one) => one.kind === kind).map(({ text }) => text), ...others(kind)]),
  ]
  const listed = (kind: Kind) => Object.entries(pages).flatMap(([page, places]) => tagsOf(readPage(page), places, kind))

  it('has been compared with every message: none is chosen where it can’t be seen', () => {
    expect([...new Set(escapes)].sort()).toEqual([...passed].sort())
    expect(messages.filter(({ kind }) => !kinds.includes(kind))).toEqual([])
    const all = Object.values(chosen).flat()
    expect(all.filter(([file, what]) => MESSAGES.chosen(file, what).length === 0)).toEqual([])
  })

  it.each(kinds)('has every message of the kind "%s"', (kind) => {
    // What a daemon can start without is an error that is logged.
    const named = kind === 'fault' ? [...listed('log'), ...listed('fault')] : listed(kind)
    const wanted = texts(kind)
    expect(wanted.length).toBeGreaterThanOrEqual(least[kind] ?? 1)
    expect(wanted.filter((text) => !named.some((tag) => isNamedBy(tag, text)))).toEqual([])
  })

  it.each(kinds)('has no other message of the kind "%s"', (kind) => {
    const wanted = kind === 'log' ? [...texts('log'), ...texts('fault')] : texts(kind)
    expect(listed(kind).filter((tag) => !wanted.some((text) => isNamedBy(tag, text)))).toEqual([])
  })
})
