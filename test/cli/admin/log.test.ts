import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, it } from 'vitest'
import { put, scratch } from '../../system/scratch'
import { environment, programPath, run } from '../programs'

const line = (time: string, msg: string, fields: object) => JSON.stringify({ level: 30, time, ...fields, msg })
const refused = (time: string, key: string) =>
  line(time, 'refused', {
    ...{ level: 40, refusal: 'not-granted', key, source: '203.0.113.9', action: 'open', address: '203.0.113.9' },
    ...{ service: '80/tcp', seconds: 3_600, until: null, rule: 'services', allowed: '22/tcp' },
  })
const opened = (time: string, key: string) =>
  line(time, 'accepted', {
    ...{ key, source: '203.0.113.9', action: 'open', address: '203.0.113.9', service: '22/tcp' },
    ...{ until: '2026-02-01T23:00:00Z', leases: ['3fa94b12'], once: false },
  })

const LINES = [
  line('2026-02-01T20:00:00.000Z', 'ready', { server: 'gate', keys: 2, source: 'nflog' }),
  opened('2026-02-01T21:00:00.000Z', 'alice'),
  refused('2026-02-01T22:00:00.000Z', 'bob'),
  line('2026-02-01T22:30:00.000Z', 'too many refusals of this key: some were not logged', { key: 'bob', count: 9 }),
]
const SENTENCES = [
  '2026-02-01T20:00:00Z  the daemon is ready: server gate, 2 keys, taps by nflog',
  '2026-02-01T21:00:00Z  alice opened 22/tcp for 203.0.113.9 until 2026-02-01T23:00:00Z (lease 3fa94b12)',
  '2026-02-01T22:00:00Z  refused bob from 203.0.113.9, who asked to open 80/tcp for 1h: the grant opens only 22/tcp (services)',
  '2026-02-01T22:30:00Z  too many refusals of this key: some were not logged (key bob, count 9)',
]
const logFile = (lines: readonly string[] = LINES) => {
  const folder = scratch()
  put(folder, 'daemon.log', `${lines.join('\n')}\n`)
  return join(folder, 'daemon.log')
}
const log = (...args: string[]) => run('knockturn', ['log', ...args])
const shown = ({ stdout }: { stdout: string }) => stdout.split('\n').filter((text) => text !== '')

describe('knockturn log of a file', () => {
  it('has each line as a sentence', async () => {
    const result = await log('--file', logFile())
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(shown(result)).toEqual(SENTENCES)
  })

  it.each<[string[], string[]]>([
    [['--key', 'alice'], [SENTENCES[1]]],
    [['--since', '2026-02-01T22:00Z'], SENTENCES.slice(2)],
    [['--since', '2026-02-02'], []],
    [['--since', '1s'], []],
    // That some are missing belongs to them.
    [['--refused'], SENTENCES.slice(2)],
    [['--refused', '--key', 'alice'], []],
  ])('with %j has %j', async (args, sentences) => {
    const result = await log('--file', logFile(), ...args)
    expect(shown(result)).toEqual(sentences)
    expect(result.code).toBe(0)
  })

  it('does not take silence for a quiet server: says that there is no such line', async () => {
    const path = logFile()
    const { stdout, stderr } = await log('--file', path, '--key', 'carol', '--refused', '--since', '2026-01-01')
    expect(stdout).toBe('')
    expect(stderr).toBe(`knockturn: note: ${path}: no line that was asked for (since 2026-01-01T00:00:00Z)\n`)
  })

  it('leaves out and counts what is no line of the daemon’s', async () => {
    const path = logFile(['knockdaemon: error: no key', LINES[0], '', '{"level":30', 'null'])
    const result = await log('--file', path)
    expect(shown(result)).toEqual([SENTENCES[0]])
    expect(result.stderr).toBe(`knockturn: note: ${path}: left out what is no line of the daemon's log: 3 in all\n`)
  })

  it('with --json has the daemon’s own lines, and only those that are asked for', async () => {
    expect(shown(await log('--file', logFile(), '--json', '--key', 'bob'))).toEqual(LINES.slice(2))
  })

  it('reads standard input', async () => {
    const result = await run('knockturn', ['log', '--file', '-'], { input: `${LINES[1]}\n` })
    expect(shown(result)).toEqual([SENTENCES[1]])
  })

  it('plays no tricks on a terminal, whatever a line says', async () => {
    const path = logFile([line('2026-02-01T20:00:00.000Z', 'odd message', { key: '\u001b[2J\u202e', reason: 'one\ntwo' })])
    for (const more of [[], ['--json']]) {
      const { stdout } = await log('--file', path, ...more)
      for (const trick of ['\u001b', '\u202e']) expect(stdout).not.toContain(trick)
      expect(stdout.trimEnd().split('\n').length).toBe(1)
    }
  })

  it('warns where others may write the file', async () => {
    const path = logFile()
    chmodSync(path, 0o666)
    const { stderr, code } = await log('--file', path)
    expect(stderr).toBe(
      `knockturn: warning: ${path}: users other than its owner may write it (mode 0666): its lines prove nothing\n`,
    )
    expect(code).toBe(0)
  })

  it.each([
    [
      'that is not there',
      'missing.log',
      /missing\.log: cannot be read: ENOENT.*\nhint: name the file that the daemon logs to with --file\n$/,
    ],
    ['that is a folder', '', /: is not a regular file\n$/],
  ])('%s is a fault', async (_, name, stderr) => {
    const result = await log('--file', join(scratch(), name))
    expect(result.code).toBe(1)
    expect(result.stderr).toMatch(stderr)
  })

  it.each([
    [['--since', 'yesterday'], /--since expected a duration such as 30m or 1d, or a date such as .*, got "yesterday"/],
    [['--key', 'a/b'], /--key expected 1 to 32 letters/],
    [['--file', '-', '--follow'], /--follow cannot be used with --file -/],
  ])('%j is a usage fault', async (args, stderr) => {
    const result = await log(...args)
    expect(result.code).toBe(2)
    expect(result.stderr).toMatch(stderr)
  })
})

describe('knockturn log --follow', () => {
  it('goes on with what comes, also where the file is rotated, and ends at Ctrl-C with 0', async () => {
    const path = logFile([LINES[0]])
    const args = [programPath('knockturn'), 'log', '--file', path, '--follow']
    const child = spawn(process.execPath, args, { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      const next = async () => (await lines.next()).value
      expect(await next()).toBe(SENTENCES[0])
      appendFileSync(path, `${LINES[1]}\n`)
      expect(await next()).toBe(SENTENCES[1])
      renameSync(path, `${path}.1`)
      put(join(path, '..'), 'daemon.log', `${LINES[2]}\n`)
      expect(await next()).toBe(SENTENCES[2])
      const ended = once(child, 'close')
      child.kill('SIGINT')
      expect((await ended)[0]).toBe(0)
    } finally {
      child.kill('SIGKILL')
    }
  })
})

describe('knockturn log of the journal', () => {
  const entry = (message: string, more: object = {}) =>
    JSON.stringify({ _SYSTEMD_UNIT: 'knockdaemon.service', _TRANSPORT: 'stdout', MESSAGE: message, ...more })
  /** A journal that answers with these entries, whatever it is asked for, and notes what that was. */
  const journal = (entries: readonly string[], end = 'exit 0') => {
    const folder = scratch()
    put(folder, 'entries', entries.map((text) => `${text}\n`).join(''))
    put(folder, 'journalctl', `#!/bin/sh\necho "$@" > ${folder}/asked\ncat ${folder}/entries\n${end}\n`, 0o755)
    put(folder, 'systemctl', '#!/bin/sh\necho LoadState=loaded\n', 0o755)
    return {
      log: (...args: string[]) => run('knockturn', ['log', ...args], { env: { PATH: `${folder}:${process.env.PATH}` } }),
      asked: () => readFileSync(join(folder, 'asked'), 'utf8').trim().split(' '),
    }
  }

  it('has the lines of the daemon’s unit', async () => {
    const result = await journal(LINES.map((text) => entry(text))).log('--since', '2026-01-01')
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(shown(result)).toEqual(SENTENCES)
  })

  it('is that of the last day, if nothing else is said', async () => {
    const { log, asked } = journal([])
    const before = Date.now() / 1_000 - 86_400
    const { stderr } = await log()
    const [, since] = /^--since=@(\d+)$/.exec(asked().find((word) => word.startsWith('--since')) ?? '') ?? []
    expect(Number(since)).toBeGreaterThanOrEqual(Math.floor(before))
    expect(Number(since)).toBeLessThanOrEqual(Date.now() / 1_000 - 86_400)
    expect(stderr).toMatch(/^knockturn: note: knockdaemon\.service: no line that was asked for \(since \S+Z\)\n$/)
  })

  it('asks for the entries of the unit alone, by the field that journald sets', async () => {
    const { log, asked } = journal([])
    await log('--since', '2026-02-01T22:00Z')
    const words = asked()
    expect(words.filter((word) => !word.startsWith('--'))).toEqual(['_SYSTEMD_UNIT=knockdaemon.service'])
    expect(words).toContain('--system')
    expect(words).toContain(`--since=@${Date.parse('2026-02-01T22:00Z') / 1000}`)
  })

  it('shows nothing that another user has written to the journal, whatever they call themselves', async () => {
    const forged = opened('2026-02-01T22:10:00.000Z', 'mallory')
    const result = await journal([
      entry(LINES[1]),
      entry(forged, { _SYSTEMD_UNIT: 'session-7.scope', _TRANSPORT: 'syslog', SYSLOG_IDENTIFIER: 'knockdaemon' }),
      entry(forged, { _SYSTEMD_UNIT: 'user@1000.service', _SYSTEMD_USER_UNIT: 'knockdaemon.service' }),
      entry(forged, { _SYSTEMD_UNIT: 'user@1000.service', _TRANSPORT: 'journal', UNIT: 'knockdaemon.service' }),
      // A line end in a message begins no line.
      entry(`nothing\n${forged}`, { _SYSTEMD_UNIT: 'session-7.scope' }),
      entry(`nothing\n${forged}`),
    ]).log('--since', '2026-01-01')
    expect(result.stdout).toBe(`${SENTENCES[1]}\n`)
    expect(result.stderr).toContain("left out what is no line of the daemon's log: 5 in all")
  })

  it('that may not be read is a fault, and not an empty log', async () => {
    const denied = 'echo "No journal files were opened due to insufficient permissions." >&2; exit 1'
    const result = await journal([], denied).log()
    expect(result.code).toBe(1)
    expect(result.stderr).toMatch(
      /^knockturn: error: the journal cannot be read: journalctl .*insufficient permissions\.\nhint: run this as root, or name/,
    )
  })
})

it('where no unit logs, nobody asks the journal', async () => {
  const folder = scratch()
  put(folder, 'systemctl', '#!/bin/sh\necho LoadState=not-found\n', 0o755)
  put(folder, 'journalctl', `#!/bin/sh\ntouch ${folder}/asked\n`, 0o755)
  await run('knockturn', ['log', '--since', '1s'], { env: { PATH: `${folder}:${process.env.PATH}` } })
  expect(existsSync(join(folder, 'asked'))).toBe(false)
})
