import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { journalSource } from '../../../src/daemon/taps/journal'
import type { TapSource } from '../../../src/daemon/taps/source'
import type { Tap } from '../../../src/gate/tap'
import { missing } from '../../../src/system/commands'
import { inOneLine } from '../../../src/system/fault'
import { put, scratch } from '../../system/scratch'
import { plain } from './plain-tap'

/** Milliseconds to wait for what must come, on a machine that is busy with something else. */
const PATIENCE = 20_000

/** A LOG line as the kernel writes it, with a space at its end. */
const logged = (port: number) =>
  `KNOCK: IN=v0 OUT= MAC=aa:bb:cc:dd:ee:ff SRC=198.51.100.2 DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=47803 DF PROTO=TCP SPT=49362 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 `
const LOGGED6 =
  'KNOCK: IN=v0 OUT= MAC=aa:bb:cc:dd:ee:ff SRC=2001:0db8:0000:0000:0000:0000:0000:0002 DST=2001:0db8:0000:0000:0000:0000:0000:0001 LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=0 PROTO=UDP SPT=40000 DPT=50001 LEN=8 '
const tap = (port: number): Tap => ({ source: '198.51.100.2', destination: '198.51.100.1', port })
const bytes = (text: string) => [...Buffer.from(text, 'latin1')]

/* Entries as journalctl 252 writes them, recorded; the messages are put in. */
const KERNEL = {
  __MONOTONIC_TIMESTAMP: '11368984063',
  __CURSOR:
    's=b3f04a58035940f68f132bb99e6307ff;i=8dc;b=c8f24f6eeee043c1b5f70f6e695d84a9;m=2a5a4edff;t=660e3b91738e9;x=cd103e9310c3e843',
  __REALTIME_TIMESTAMP: '1795381039413481',
  _BOOT_ID: 'c8f24f6eeee043c1b5f70f6e695d84a9',
  _TRANSPORT: 'kernel',
}
const MISSED_ID = 'e9bf28e6e834481bb6f48f548ad13606'
const MISSED = { ...KERNEL, _TRANSPORT: 'driver', MESSAGE: 'Missed 12 kernel messages', MESSAGE_ID: MISSED_ID }
/** Written by `logger`, `systemd-cat` and a program that talks to the journal, with all their fields. */
const FORGED = [
  `{"_COMM":"logger","__MONOTONIC_TIMESTAMP":"11254789657","_CMDLINE":"logger --journald","_BOOT_ID":"c8f24f6eeee043c1b5f70f6e695d84a9","_EXE":"/usr/bin/logger","_GID":"0","_SOURCE_REALTIME_TIMESTAMP":"1795380925219064","_UID":"0","_HOSTNAME":"vm","_MACHINE_ID":"3d1219c7c4c5404aaa1f6d2a48adfda4","_PID":"16","__REALTIME_TIMESTAMP":"1795380925219075","PRIORITY":"4","SYSLOG_IDENTIFIER":"logger","_TRANSPORT":"journal","_RUNTIME_SCOPE":"system","_CAP_EFFECTIVE":"1fffeffffff","MESSAGE":"${logged(1)}"}`,
  `{"_MACHINE_ID":"3d1219c7c4c5404aaa1f6d2a48adfda4","_STREAM_ID":"b320f6126134484db9ca5477cf477ea6","_HOSTNAME":"vm","PRIORITY":"6","MESSAGE":"${logged(2)}","_UID":"0","_TRANSPORT":"stdout","__MONOTONIC_TIMESTAMP":"11254788139","_GID":"0","_PID":"14","_RUNTIME_SCOPE":"system","__REALTIME_TIMESTAMP":"1795380925217557","_BOOT_ID":"c8f24f6eeee043c1b5f70f6e695d84a9","_COMM":"cat"}`,
  `{"_TRANSPORT":"syslog","PRIORITY":"4","SYSLOG_IDENTIFIER":"kernel","SYSLOG_FACILITY":"0","MESSAGE":"${logged(3)}"}`,
  `{"_UID":"0","_TRANSPORT":"journal","PRIORITY":"4","MESSAGE":"nested {\\"_TRANSPORT\\":\\"kernel\\",\\"MESSAGE\\":\\"${logged(4)}\\"}","TRANSPORT":"kernel","_PID":"19"}`,
  `{"_UID":"0","_TRANSPORT":"journal","PRIORITY":"4","MESSAGE":"x\\n{\\"_TRANSPORT\\":\\"kernel\\",\\"MESSAGE\\":\\"${logged(5)}\\"}\\n"}`,
]
const kernel = (message: unknown) => JSON.stringify({ ...KERNEL, MESSAGE: message })

let folder = ''
const sources: TapSource[] = []
beforeEach(() => {
  folder = scratch()
  // It writes the recording of this one of its lives, and then says nothing until it is killed.
  const script = `#!/bin/sh
cd ${folder}
echo $$ >> pids
echo "$@" > args
life=$(wc -l < pids)
cat out.$life
if [ -e err.$life ]; then cat err.$life >&2; exit 1; fi
exec sleep 600
`
  put(folder, 'journalctl', script, 0o755)
  vi.stubEnv('PATH', `${folder}:${process.env.PATH}`)
})
afterEach(async () => {
  for (const source of sources.splice(0)) await source.stop()
  vi.unstubAllEnvs()
})

/** Listens to a journalctl that writes these lines in its first life and those in its second. */
function listen(...lives: (string | Uint8Array)[]) {
  for (const [i, life] of lives.entries()) put(folder, `out.${i + 1}`, life)
  const taps: (Tap | null)[] = []
  const warned: string[] = []
  const source = journalSource('KNOCK: ', (message) => warned.push(message))
  sources.push(source)
  const started = source.start(
    (heard) => taps.push(plain(heard)),
    () => {},
  )
  started.catch(() => {})
  const ports = () => taps.map((tap) => tap?.port)
  return {
    ...source,
    started,
    taps,
    ports,
    warned,
    heard: (port: number) => vi.waitFor(() => expect(ports()).toContain(port), PATIENCE),
  }
}
/** Its processes, those of past lives too. */
const pids = () => readFileSync(join(folder, 'pids'), 'utf8').trim().split('\n').map(Number)
const LAST = 65_535
const END = `${kernel(logged(LAST))}\n`

describe('the journal', () => {
  it.each([
    ['a line of the kernel', kernel(logged(50_000)), tap(50_000)],
    ['a line over IPv6', kernel(LOGGED6), { source: '2001:db8::2', destination: '2001:db8::1', port: 50_001 }],
    ['a line as bytes', kernel(bytes(logged(50_002))), tap(50_002)],
    [
      'a line with all of the fields',
      `{"SYSLOG_FACILITY":"0","PRIORITY":"7","SYSLOG_IDENTIFIER":"kernel","_TRANSPORT":"kernel","_HOSTNAME":"vm","_SOURCE_MONOTONIC_TIMESTAMP":"5192210940","MESSAGE":"${logged(50_003)}"}`,
      tap(50_003),
    ],
  ])('gives a tap for %s', async (_, line, expected) => {
    const { taps, heard, counters } = listen(`${line}\n${END}`)
    await heard(LAST)
    expect([taps, counters]).toEqual([[expected, tap(LAST)], { seen: 2, ignored: 0, unreadable: 0, dropped: 0 }])
  })

  it.each([
    ...FORGED.map((line) => ['a forged entry', line]),
    ['a transport that came twice', JSON.stringify({ ...KERNEL, _TRANSPORT: ['kernel', 'syslog'], MESSAGE: logged(1) })],
    ['no transport', JSON.stringify({ MESSAGE: logged(1) })],
    ['a message that came twice', kernel([logged(1), logged(2)])],
    ['a message that came twice, as bytes', kernel([bytes(logged(1)), bytes(logged(2))])],
    ['a message as bytes, not all printable', kernel([...bytes(logged(1)), 0])],
    ['a message as bytes that are none', kernel([...bytes(logged(1)), 256])],
    ['a message as numbers and words', kernel([...bytes(logged(1)), ' '])],
    ['a message that was too long for journalctl', kernel(null)],
    ['no message', JSON.stringify(KERNEL)],
    ['a message with a line in it', kernel(`x\n${logged(1)}`)],
    ['something in front of the prefix', kernel(`usb 1-1: Product: ${logged(1)}`)],
    ['what the kernel says otherwise', kernel('switch: port 3(stranger) entered disabled state')],
    ['what journald says otherwise', JSON.stringify({ ...MISSED, MESSAGE: 'Missed some kernel messages' })],
    ['a LOG line by journald', JSON.stringify({ ...MISSED, MESSAGE: logged(1) })],
    ['another that says what journald does', JSON.stringify({ ...MISSED, _TRANSPORT: 'journal' })],
    ['a LOG line that is no JSON', logged(1)],
    ['half an entry', kernel(logged(1)).slice(0, -1)],
    ['two entries in a line', `${kernel(logged(1))}${kernel(logged(2))}`],
    ['an entry in a list', `[${kernel(logged(1))}]`],
    ['nothing', ''],
    ['null', 'null'],
    ['a number', '7'],
    ['NULs', '\0'.repeat(100)],
    ['an entry longer than any', `${kernel(logged(1)).slice(0, -1)},"X":"${'x'.repeat(32 * 1024)}"}`],
  ])('gives none for %s', async (_, line) => {
    const { ports, heard, counters } = listen(`${line}\n${END}`)
    await heard(LAST)
    expect([ports(), counters]).toEqual([[LAST], { seen: 2, ignored: 1, unreadable: 0, dropped: 0 }])
  })

  it.each([
    ['with a NUL', `${logged(1)}\0`],
    ['of a packet behind an extension header', logged(1).replace('PROTO=TCP', 'OPT ( ) PROTO=TCP')],
  ])(
    'gives none for a message of the kernel’s with our prefix that can’t be read, and counts it as such (%s)',
    async (_, text) => {
      const { ports, heard, counters } = listen(`${kernel(text)}\n${END}`)
      await heard(LAST)
      expect([ports(), counters]).toEqual([[LAST], { seen: 2, ignored: 1, unreadable: 1, dropped: 0 }])
    },
  )

  it('gives none for any other JSON', async () => {
    const { ports, heard, counters } = listen(`${fc.sample(fc.json(), { numRuns: 500, seed: 1 }).join('\n')}\n${END}`)
    await heard(LAST)
    expect([ports(), counters]).toEqual([[LAST], { seen: 501, ignored: 500, unreadable: 0, dropped: 0 }])
  })

  it('gives none for bytes that are no text', async () => {
    const noise = Uint8Array.from({ length: 100_000 }, (_, i) => ((i * 7_919) >> 3) & 0xff)
    const { ports, heard } = listen(Buffer.concat([noise, Buffer.from(`\n${END}`)]))
    await heard(LAST)
    expect(ports()).toEqual([LAST])
  })

  it('is heard on after a line of 10 MB', async () => {
    const { ports, heard, counters } = listen(`${kernel(`${logged(1)}${'x'.repeat(10 * 1024 * 1024)}`)}\n${END}`)
    await heard(LAST)
    expect([ports(), counters]).toEqual([[LAST], { seen: 2, ignored: 1, unreadable: 0, dropped: 0 }])
  })

  it('counts what journald has missed of the kernel’s messages', async () => {
    const { heard, counters } = listen(`${JSON.stringify(MISSED)}\n${JSON.stringify(MISSED)}\n${END}`)
    await heard(LAST)
    expect(counters).toEqual({ seen: 1, ignored: 0, unreadable: 0, dropped: 24 })
  })
})

describe('journalctl', () => {
  const kill = (life: number) => process.kill(pids()[life - 1], 'SIGKILL')

  it('is asked for what comes from now on, of the kernel, and what was missed of that', async () => {
    const { started } = listen('')
    await started
    const args = readFileSync(join(folder, 'args'), 'utf8').trim()
    expect(args).toMatch(/--follow --lines=0 --output=json .*_TRANSPORT=kernel \+ _TRANSPORT=driver MESSAGE_ID=[0-9a-f]{32}$/)
  })

  it('is started again when it has died', async () => {
    const { started, ports, heard, warned } = listen(`${kernel(logged(1))}\n`, END)
    await started
    kill(1)
    await heard(LAST)
    await vi.waitFor(() => expect(warned).toHaveLength(2), PATIENCE)
    expect(ports()).toEqual([1, LAST])
    expect(warned).toEqual(['journalctl exited, restarting: killed by SIGKILL', 'journalctl restarted'])
  })

  it('is started again and again, and each reason is said once', async () => {
    for (const life of [2, 3]) put(folder, `err.${life}`, 'Failed to open journal: Bad message\n')
    const { started, heard, warned } = listen('', '', '', END)
    await started
    kill(1)
    await heard(LAST)
    await vi.waitFor(() => expect(warned.at(-1)).toBe('journalctl restarted'), PATIENCE)
    expect(warned.slice(0, -1).map((line) => line.split(': ').slice(1).join(': '))).toEqual([
      'killed by SIGKILL',
      'Failed to open journal: Bad message',
    ])
  })

  it('leaves nothing of half a line to its next life', async () => {
    const line = kernel(logged(1))
    const { started, heard, ports, counters } = listen(line.slice(0, 300), `${line.slice(300)}\n${END}`)
    await started
    kill(1)
    await heard(LAST)
    expect([ports(), counters]).toEqual([[LAST], { seen: 2, ignored: 1, unreadable: 0, dropped: 0 }])
  })

  it('that cannot start is a fault, in its own words', async () => {
    put(folder, 'err.1', 'Hint: look here\nFailed to open journal: Permission denied\n')
    await expect(listen('').started).rejects.toThrow(
      'journalctl cannot read the journal: Failed to open journal: Permission denied',
    )
  })

  it.each([
    ['BusyBox', 'unrecognized option: pdeathsig', 'BusyBox v1.36.1 multi-call binary.\n\nUsage: setpriv [OPTIONS] PROG [ARGS]\n'],
    ['an old util-linux', "unrecognized option '--pdeathsig'", "Try 'setpriv --help' for more information.\n"],
  ])('is not blamed for a setpriv that cannot start it: that of %s', async (_, says, more) => {
    put(folder, 'said', `setpriv: ${says}\n${more}`)
    put(folder, 'setpriv', `#!/bin/sh\ncat ${folder}/said >&2\nexit 1\n`, 0o755)
    await expect(listen('').started).rejects.toMatchObject({
      message: `setpriv cannot start journalctl: ${says}`,
      hint: 'install setpriv of util-linux 2.33 or later (not that of BusyBox), or set source = "file" in [taps]',
    })
  })

  it('that dies while we are ended, too, is no news', async () => {
    const { started, stop, warned } = listen('')
    await started
    kill(1)
    await vi.waitFor(() => expect(() => process.kill(pids()[0], 0)).toThrow('ESRCH'), PATIENCE)
    // Its streams close behind it, and then its life is over for us.
    await sleep(50)
    await stop()
    expect(warned).toEqual([])
  })

  it('ends with us', async () => {
    const { started, stop } = listen('')
    await started
    await stop()
    expect(() => process.kill(pids()[0], 0)).toThrow('ESRCH')
  })

  it('that is missing is a fault that says what to install, or to set', () => {
    expect(inOneLine(missing('journalctl'))).toBe(
      'journalctl is not installed: install it (Debian: apt-get install systemd), or set source = "nflog" or "file" in [taps]',
    )
  })
})
