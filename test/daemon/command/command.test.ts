import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { ProgramTable } from '../../../src/daemon/command/command'
import { Doors } from '../../../src/daemon/doors/doors'
import type { Entry, Lease, Lock } from '../../../src/gate/firewall'
import { Leases } from '../../../src/gate/leases'
import type { Grant } from '../../../src/gate/policy'
import { until } from '../../lab/waiters'
import { scratch } from '../../system/scratch'

/* The table of a user's program, with a real one: a script that writes down its calls, and does what the test says. */

const WALL = Math.floor(Date.now() / 1000)
const HOUR = 3_600

const lease = (more: Partial<Lease> = {}): Lease => ({
  id: 'ab12cd34',
  key: 'alice',
  fingerprint: 'f00d',
  address: '198.51.100.2',
  protocol: 'tcp',
  port: 22,
  once: false,
  until: WALL + HOUR,
  ...more,
})

class Stage {
  readonly folder = scratch()
  readonly path = join(this.folder, 'ledger.open')
  readonly lines: Record<string, unknown>[] = []
  readonly log = pino({ level: 'debug', base: null }, { write: (line: string) => void this.lines.push(JSON.parse(line)) })
  readonly #program = join(this.folder, 'program')
  table: ProgramTable

  constructor({ isTimed = true, isListed = false, timeLimit = 10 } = {}) {
    this.does('')
    const call = (act: string, ...more: string[]) =>
      [this.#program, act, '{address}', '{protocol}', '{port}', '{lease}', ...more] as [string, ...string[]]
    const config = {
      open: call('open', ...(isTimed ? ['{seconds}'] : [])),
      close: call('close'),
      list: isListed ? ([this.#program, 'list'] as [string, ...string[]]) : null,
      timeLimit,
    }
    const left = (entry: Entry) => (entry.until === null ? Infinity : entry.until * 1000 - Date.now())
    this.make = () => new ProgramTable({ config, path: this.path, left, log: this.log })
    this.table = this.make()
  }

  readonly make: () => ProgramTable

  /** What the program does when it is called, as a shell script: $1 is the act. */
  does(script: string) {
    const next = `${this.#program}.new`
    writeFileSync(next, `#!/bin/sh\necho "$*" >> ${this.folder}/calls\n${script}\n`)
    chmodSync(next, 0o755)
    // A script that is being run can't be written.
    rmSync(this.#program, { force: true })
    writeFileSync(this.#program, readFileSync(next))
    chmodSync(this.#program, 0o755)
  }

  /** The calls since the last time, without the seconds of a lease that is just an hour. */
  calls() {
    const file = join(this.folder, 'calls')
    const calls = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : []
    rmSync(file, { force: true })
    return calls.map((call) => call.replace(/ (?:3600|35\d\d)$/, ' hour'))
  }

  kept() {
    return JSON.parse(readFileSync(this.path, 'utf8'))
  }

  add = (...entries: Entry[]) => this.table.change({ add: entries, remove: [] })
  remove = (...entries: Entry[]) => this.table.change({ add: [], remove: entries.map((entry) => ({ entry, why: 'closed' })) })
  entries = async () => (await this.table.read()).entries
}

describe('a lease', () => {
  it('is a call of the program to open, and one to close, and is written down meanwhile', async () => {
    const stage = new Stage()
    stage.does('[ $1 = close ] || cp ledger.open seen 2> /dev/null || cp "$(dirname $0)/ledger.open" "$(dirname $0)/seen"')
    await stage.add(lease())
    expect(stage.calls()).toEqual(['open 198.51.100.2 tcp 22 ab12cd34 hour'])
    // When the program was asked to open it, it had been written down as one of which nobody knows.
    expect(JSON.parse(readFileSync(join(stage.folder, 'seen'), 'utf8')).ways).toMatchObject([
      { address: '198.51.100.2', isOpen: false, leases: [{ id: 'ab12cd34' }] },
    ])
    expect(stage.kept().ways).toMatchObject([{ isOpen: true }])
    expect(await stage.entries()).toEqual([lease()])
    await stage.remove(lease())
    expect(stage.calls()).toEqual(['close 198.51.100.2 tcp 22 ab12cd34'])
    expect([await stage.entries(), stage.kept().ways]).toEqual([[], []])
  })

  it('of a second key for the same port and address needs no call, and the port stays open for it', async () => {
    const stage = new Stage({ isTimed: false })
    const [first, second] = [lease(), lease({ id: 'ef56', key: 'bob', fingerprint: 'beef' })]
    await stage.add(first)
    await stage.add(second)
    await stage.remove(first)
    expect(stage.calls()).toEqual(['open 198.51.100.2 tcp 22 ab12cd34'])
    expect(await stage.entries()).toEqual([second])
    await stage.remove(second)
    // By the name by which it was opened.
    expect(stage.calls()).toEqual(['close 198.51.100.2 tcp 22 ab12cd34'])
  })

  it('that is made longer, or ends before another on its port, has the program told the new end', async () => {
    const stage = new Stage()
    const [short, long] = [lease(), lease({ until: WALL + 3 * HOUR })]
    await stage.add(short)
    await stage.table.change({ add: [long], remove: [{ entry: short, why: 'replaced' }] })
    const other = lease({ id: 'ef56', key: 'bob', fingerprint: 'beef' })
    await stage.add(other)
    await stage.remove(long)
    expect(stage.calls().map((call) => call.replace(/ 10[678]\d\d$/, ' three hours'))).toEqual([
      'open 198.51.100.2 tcp 22 ab12cd34 hour',
      'open 198.51.100.2 tcp 22 ab12cd34 three hours',
      'open 198.51.100.2 tcp 22 ab12cd34 hour',
    ])
    expect(await stage.entries()).toEqual([other])
  })

  it('until it is closed is opened for 0 seconds, and ends by itself by no program', async () => {
    const stage = new Stage()
    await stage.add(lease({ until: null }))
    expect(stage.calls()).toEqual(['open 198.51.100.2 tcp 22 ab12cd34 0'])
    expect([stage.table.endsByItself(lease({ until: null })), stage.table.endsByItself(lease())]).toEqual([false, true])
    expect(new Stage({ isTimed: false }).table.endsByItself(lease())).toBe(false)
  })

  it('and a lock are there after a restart, without a call', async () => {
    const stage = new Stage()
    const lock: Lock = { id: '9876', key: 'alice', fingerprint: 'f00d', address: '198.51.100.66', until: WALL + HOUR }
    await stage.add(lease(), lock)
    stage.calls()
    stage.table = stage.make()
    expect(await stage.table.read()).toEqual({ entries: [lease(), lock], isWhole: true, isOutdated: false })
    expect(stage.calls()).toEqual([])
  })
})

describe('a program', () => {
  const failing = async (script: string, timeLimit = 10) => {
    const stage = new Stage({ timeLimit })
    stage.does(`[ $1 = close ] && exit 0\n${script}`)
    const why = await stage.add(lease()).then(
      () => 'done',
      (error) => error.message.replace(stage.folder, ''),
    )
    expect(await stage.entries()).toEqual([])
    return why
  }

  it('that fails is quoted with what it has printed', async () => {
    expect(await failing('echo here; sleep 0.2; echo no route to router >&2; exit 7')).toBe(
      '/program ended with exit code 7: here no route to router',
    )
  })

  it('that hangs is ended with its children when its time is over', async () => {
    expect(await failing('echo $$ > $0.pid; sleep 1000', 1)).toBe('/program took more than 1 s')
    expect(await failing("trap '' TERM; sleep 1000 & wait; wait", 1)).toBe('/program took more than 1 s')
  })

  it('that is done and leaves something in the background that holds its output is done', async () => {
    expect(await failing('sleep 5 & exit 0').catch(() => 'open')).toBe('open')
  })

  it('that prints 100 MB is ended, and little of that is said', async () => {
    const why = await failing('head -c 100000000 /dev/zero | tr "\\0" x')
    expect(why).toMatch(/^\/program printed more than 1048576 bytes: …x{400}$/)
  })

  it('that prints what a terminal acts on is quoted without that', async () => {
    expect(await failing("printf 'a\\033[2J\\033]0;title\\007b\\r\\nc\\302\\233d\\342\\200\\256e'; exit 1")).toBe(
      '/program ended with exit code 1: a [2J ]0;title b c d\\u202ee',
    )
  })

  it('that is not there is named', async () => {
    const stage = new Stage()
    rmSync(join(stage.folder, 'program'))
    await expect(stage.add(lease())).rejects.toThrow(/program ended with exit code 127: .*No such file/)
  })

  it('says what it likes when all is well, to who asks for debug', async () => {
    const stage = new Stage()
    stage.does("printf 'well \\033[1mdone\\n'")
    await stage.add(lease())
    expect(stage.lines).toMatchObject([{ level: 20, act: 'open', service: '22/tcp', printed: 'well  [1mdone' }])
  })

  it('gets its words as they are, and neither our privileges nor anything to read', async () => {
    const stage = new Stage()
    stage.does('cat > $0.in; grep CapAmb /proc/self/status >&2; echo "$#"')
    await stage.add(lease({ address: '2001:db8::7' }))
    // Two streams: either may come first.
    expect(['CapAmb: 0000000000000000 6', '6 CapAmb: 0000000000000000']).toContain(stage.lines[0].printed)
    expect(readFileSync(join(stage.folder, 'program.in'), 'utf8')).toBe('')
  })
})

describe('an end', () => {
  it('is tried until the program succeeds, more and more rarely', async () => {
    const stage = new Stage()
    await stage.add(lease())
    stage.does('[ -e $0.works ] || exit 3')
    await expect(stage.remove(lease())).rejects.toThrow('ended with exit code 3')
    expect(await stage.entries()).toEqual([lease()])
    // Nothing is called before its time, and it is said again why.
    await expect(stage.remove(lease())).rejects.toThrow('ended with exit code 3')
    expect(stage.calls().filter((call) => call.startsWith('close'))).toHaveLength(1)
    writeFileSync(join(stage.folder, 'program.works'), '')
    const isGone = () =>
      stage.remove(lease()).then(
        () => true,
        () => false,
      )
    await until(isGone, 'the end')
    expect([stage.calls(), await stage.entries()]).toEqual([['close 198.51.100.2 tcp 22 ab12cd34'], []])
  })

  it('that has begun stays one after a crash, and no lease comes back', async () => {
    const stage = new Stage()
    await stage.add(lease())
    stage.does('exit 3')
    await expect(stage.remove(lease())).rejects.toThrow()
    stage.calls()
    stage.table = stage.make()
    stage.does('')
    expect(await stage.table.read()).toEqual({ entries: [], isWhole: true, isOutdated: true })
    await stage.table.rewrite([])
    expect([stage.calls(), stage.kept().ways]).toEqual([['close 198.51.100.2 tcp 22 ab12cd34'], []])
  })

  it('that has been tried is not undone by what is opened elsewhere', async () => {
    const stage = new Stage()
    await stage.add(lease())
    stage.does('[ $1 = open ] || exit 3')
    await expect(stage.remove(lease())).rejects.toThrow()
    stage.calls()
    const ours: string[] = []
    let n = 10
    const isTriedAgain = async () => {
      await stage.add(lease({ id: `id${n}`, address: `198.51.100.${n++ % 200}` })).catch(() => {})
      ours.push(...stage.calls().filter((call) => call.includes(' 198.51.100.2 ')))
      return ours.length > 0
    }
    await until(isTriedAgain, 'the next try')
    expect(ours).toEqual(['close 198.51.100.2 tcp 22 ab12cd34'])
  })

  it('follows an opening that has failed: it may have worked', async () => {
    const stage = new Stage()
    stage.does('[ $1 = close ] || exit 1')
    await expect(stage.add(lease())).rejects.toThrow()
    expect(stage.kept().ways).toMatchObject([{ isOpen: false, leases: [] }])
    expect((await stage.table.read()).isOutdated).toBe(true)
    await stage.table.rewrite([])
    expect([stage.calls().slice(1), stage.kept().ways]).toEqual([['close 198.51.100.2 tcp 22 ab12cd34'], []])
  })

  it('does not wait for another that fails', async () => {
    const stage = new Stage()
    const other = lease({ id: 'ef56', address: '198.51.100.9' })
    await stage.add(lease(), other)
    stage.does('case "$*" in "close 198.51.100.2 "*) exit 1;; esac')
    await expect(stage.remove(lease(), other)).rejects.toThrow('exit code 1')
    expect(await stage.entries()).toEqual([lease()])
  })

  it('holds up no opening in the same change', async () => {
    const stage = new Stage()
    await stage.add(lease())
    stage.does('[ $1 = open ] || exit 1')
    const other = lease({ id: 'ef56', address: '198.51.100.9' })
    await expect(stage.table.change({ add: [other], remove: [{ entry: lease(), why: 'closed' }] })).rejects.toThrow()
    expect(await stage.entries()).toEqual([lease(), other])
  })

  it('that hangs is tried once in a change, whatever else is to end', async () => {
    const stage = new Stage({ timeLimit: 1 })
    const many = ['2', '3', '4'].map((n) => lease({ id: n, address: `198.51.100.${n}` }))
    await stage.add(...many)
    stage.calls()
    stage.does('[ $1 = open ] || sleep 1000')
    await expect(stage.remove(...many)).rejects.toThrow('took more than 1 s')
    expect(stage.calls()).toHaveLength(1)
    expect(await stage.entries()).toEqual(many)
  })
})

describe('an opening', () => {
  it('of which a crash left nobody knowing is made again, if its lease still counts', async () => {
    const stage = new Stage()
    await stage.add(lease())
    const kept = stage.kept()
    kept.ways[0].isOpen = false
    writeFileSync(stage.path, JSON.stringify(kept))
    stage.calls()
    stage.table = stage.make()
    expect(await stage.table.read()).toEqual({ entries: [lease()], isWhole: true, isOutdated: true })
    await stage.table.rewrite([lease()])
    expect(stage.calls()).toEqual(['open 198.51.100.2 tcp 22 ab12cd34 hour'])
    expect((await stage.table.read()).isOutdated).toBe(false)
  })

  it('is not made where it can’t be written down, and an end is', async () => {
    const stage = new Stage()
    await stage.add(lease())
    stage.calls()
    // A folder in the place of the next file: no disk takes that.
    mkdirSync(`${stage.path}.new`)
    const other = lease({ id: 'ef56', address: '198.51.100.9' })
    await expect(stage.table.change({ add: [other], remove: [{ entry: lease(), why: 'closed' }] })).rejects.toThrow(
      /ledger\.open: cannot be written: /,
    )
    expect([stage.calls(), await stage.entries()]).toEqual([['close 198.51.100.2 tcp 22 ab12cd34'], []])
    rmSync(`${stage.path}.new`, { recursive: true })
    await stage.entries()
    expect(stage.kept().ways).toEqual([])
  })
})

describe('a list', () => {
  it('that lacks a lease has it opened again', async () => {
    const stage = new Stage({ isListed: true })
    await stage.add(lease())
    stage.table = stage.make()
    stage.calls()
    expect(await stage.table.read()).toEqual({ entries: [lease()], isWhole: true, isOutdated: true })
    await stage.table.rewrite([lease()])
    expect(stage.calls()).toEqual(['list', 'open 198.51.100.2 tcp 22 ab12cd34 hour'])
    expect(stage.lines).toContainEqual(
      expect.objectContaining({ msg: "the program's list lacks open leases: opening them again", count: 1 }),
    )
  })

  it('that has more than there are leases has that closed', async () => {
    const stage = new Stage({ isListed: true })
    stage.does('[ $1 = list ] && echo "198.51.100.66 udp 53 left" && echo "198.51.100.67 tcp 22"')
    expect((await stage.table.read()).isOutdated).toBe(true)
    stage.does('')
    await stage.table.rewrite([])
    expect(stage.calls()).toEqual(['list', 'close 198.51.100.66 udp 53 left', 'close 198.51.100.67 tcp 22 unknown'])
  })

  it('with a line that is not understood opens nothing again, and is told of once', async () => {
    const stage = new Stage({ isListed: true })
    await stage.add(lease())
    stage.does('[ $1 = list ] && echo all is well')
    stage.table = stage.make()
    expect((await stage.table.read()).isOutdated).toBe(false)
    const told = stage.lines.filter(({ msg }) => msg === "cannot understand a line of the program's list")
    expect(told).toMatchObject([{ line: 'all is well' }])
  })

  it('that fails changes nothing', async () => {
    const stage = new Stage({ isListed: true })
    await stage.add(lease())
    stage.does('[ $1 = list ] && exit 1')
    stage.table = stage.make()
    expect(await stage.table.read()).toMatchObject({ entries: [lease()], isOutdated: false })
    expect(stage.lines).toContainEqual(expect.objectContaining({ msg: 'cannot list what the program has opened' }))
  })
})

describe('the daemon’s worker', () => {
  it('has every end come, in the end, whatever the program does in between', async () => {
    const stage = new Stage({ isTimed: false, timeLimit: 1 })
    const leases = new Leases()
    const now = () => ({ wall: Date.now(), steady: performance.now() })
    const doors = new Doors({ leases, firewall: [stage.table], log: stage.log, now })
    const grant = (address: string): Grant => ({
      action: 'open',
      address,
      services: [{ port: 22, protocol: 'tcp' }],
      once: false,
      until: WALL + HOUR,
    })
    await doors.adopt()
    // A program that keeps what is open as files, and works every other time.
    stage.does(`n=$(cat $0.n 2> /dev/null || echo 0); echo $((n + 1)) > $0.n
mkdir -p $0.open
[ $((n % 2)) = 1 ] || exit 1
[ $1 = open ] && touch $0.open/$2
[ $1 = close ] && rm -f $0.open/$2
exit 0`)
    for (const n of [2, 3, 4, 5]) {
      leases.open(`id${n}`, 'alice', 'f00d', grant(`198.51.100.${n}`), now())
      doors.follow()
    }
    await doors.settle()
    leases.endAll(() => true)
    const isShut = async () => {
      doors.follow()
      await doors.settle()
      return stage.kept().ways.length === 0
    }
    await until(isShut, 'every end', 60_000)
    expect(readFileSync(join(stage.folder, 'calls'), 'utf8')).toContain('open')
    expect(readdirSync(join(stage.folder, 'program.open'))).toEqual([])
  })
})
