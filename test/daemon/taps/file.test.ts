import { execFileSync, fork } from 'node:child_process'
import { pbkdf2 } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { fileSource, MAX_FILES } from '../../../src/daemon/taps/file'
import { MAX_LINE } from '../../../src/daemon/taps/log-line'
import type { TapSource } from '../../../src/daemon/taps/source'
import type { Tap } from '../../../src/gate/tap'
import { Fault, inOneLine } from '../../../src/system/fault'
import { scratch } from '../../system/scratch'

let folder: string
let path: string
let warnings: string[]
let taps: Tap[]
let source: TapSource
const endings: (() => unknown)[] = []

beforeEach(() => {
  folder = scratch()
  path = join(folder, 'knock.log')
  warnings = []
  taps = []
})
afterEach(async () => {
  await source?.stop()
  for (const end of endings.splice(0)) await end()
})

/** A LOG line whose source, destination and port all say its number, each line as long as any other. */
function line(n: number): string {
  const [high, low] = [100 + Math.floor(n / 10_000), n % 10_000]
  const [a, b] = [100 + Math.floor(low / 100), 100 + (low % 100)]
  const ip = `SRC=10.${high}.${a}.${b} DST=192.${high}.${a}.${b} LEN=60 TOS=00 PREC=0x00 TTL=64 ID=${10_000 + low} DF`
  const tcp = `PROTO=TCP SPT=${20_000 + low} DPT=${30_000 + low} WINDOW=64240 RES=0x00 SYN URGP=0 MARK=0`
  return `Nov 22 20:46:12 gate KNOCK:  IN=eth0 OUT= MAC=9a:69:bb:3f:7a:cd:5a:f3:16:26:a3:3d:08:00 ${ip} ${tcp} `
}
const text = (from: number, to: number) => `${lines(from, to).join('\n')}\n`
const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => line(from + i))
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const SPLICED = -1
/** The number that a tap says, or SPLICED for one that was spliced from two lines. */
function numberOf({ source, destination, port }: Tap): number {
  const [, high, a, b] = source.split('.').map(Number)
  const low = (a - 100) * 100 + (b - 100)
  const isWhole = destination === source.replace(/^10/, '192') && port === 30_000 + low
  return isWhole ? (high - 100) * 10_000 + low : SPLICED
}
const heard = () => taps.map(numberOf).sort((a, b) => a - b)
const hears = (count: number) => vi.waitUntil(() => taps.length >= count, { timeout: 20_000, interval: 2 })
const hearsNumber = (n: number) => vi.waitUntil(() => taps.some((tap) => numberOf(tap) === n), { timeout: 20_000, interval: 2 })
const warns = (pattern: RegExp) =>
  vi.waitUntil(() => warnings.some((warning) => pattern.test(warning)), { timeout: 20_000, interval: 5 })

async function follow(file = path) {
  source = fileSource(file, 'KNOCK: ', (message) => warnings.push(message))
  await source.start(
    (tap) => taps.push(tap),
    () => {},
  )
}

/** A writer in a process of its own; what it is told to do is done in order, and each promise is for that. */
async function makeWriter() {
  const child = fork(fileURLToPath(new URL('log-writer.mjs', import.meta.url)), { stdio: 'inherit' })
  endings.push(async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  const waiting: (() => void)[] = []
  child.on('message', () => waiting.shift()?.())
  const tell = (order: object) =>
    new Promise<void>((resolve) => {
      waiting.push(resolve)
      child.send(order)
    })
  await tell({ reopen: path })
  return tell
}

/** The descriptors that we hold in the folder. */
const held = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder)
    } catch {
      return false
    }
  }).length

describe('nothing is lost and nothing spliced when the file', () => {
  it('is renamed and created again, and again', async () => {
    const tell = await makeWriter()
    await follow()
    for (let n = 0; n < 6_000; n += 500) {
      tell({ write: lines(n, n + 500) })
      // Found, but seldom read to its end.
      await hearsNumber(n)
      tell({ rename: [path, `${path}.${n}`] })
      tell({ create: path })
      tell({ reopen: path })
    }
    await hears(6_000)
    expect([heard(), warnings]).toEqual([numbers(0, 6_000), []])
  })

  it('is renamed and created while the writer goes on with the old one for 300 ms', async () => {
    const tell = await makeWriter()
    await follow()
    for (let n = 0; n < 6_000; n += 2_000) {
      await tell({ write: lines(n, n + 500) })
      tell({ rename: [path, `${path}.${n}`] })
      tell({ create: path })
      tell({ write: lines(n + 500, n + 1_500), within: 300 })
      tell({ reopen: path })
      tell({ write: lines(n + 1_500, n + 2_000) })
      await hearsNumber(n + 1_500)
    }
    await hears(6_000)
    expect([heard(), warnings]).toEqual([numbers(0, 6_000), []])
  })

  it('is renamed right after a burst of 100,000 lines', async () => {
    const tell = await makeWriter()
    await follow()
    await tell({ write: lines(0, 25) })
    appendFileSync(path, text(25, 100_025))
    renameSync(path, `${path}.1`)
    await tell({ reopen: path })
    tell({ write: lines(100_025, 100_050) })
    await hears(100_050)
    expect([heard(), warnings]).toEqual([numbers(0, 100_050), []])
  })

  it('is cut when all has been read', async () => {
    const tell = await makeWriter()
    await follow()
    for (let n = 0; n < 6_000; n += 500) {
      tell({ write: lines(n, n + 500), within: 10 })
      await hears(n + 500)
      await tell({ truncate: path })
    }
    expect(heard()).toEqual(numbers(0, 6_000))
  })

  it('is cut when all has been read, and as much is written at once', async () => {
    writeFileSync(path, '')
    await follow()
    appendFileSync(path, text(0, 10_000))
    await hears(10_000)
    writeFileSync(path, text(10_000, 20_000))
    await hears(20_000)
    expect(heard()).toEqual(numbers(0, 20_000))
  })

  it('is cut when all has been read, and more is written at once', async () => {
    writeFileSync(path, '')
    await follow()
    appendFileSync(path, text(0, 100))
    await hears(100)
    writeFileSync(path, text(100, 1_000))
    await hears(1_000)
    expect(heard()).toEqual(numbers(0, 1_000))
  })

  it('is missing at the start, which is said once, and its end too', async () => {
    await follow()
    await warns(/knock\.log: does not exist yet, waiting for it/)
    writeFileSync(path, text(0, 10))
    await hears(10)
    appendFileSync(path, text(10, 20))
    await hears(20)
    expect(heard()).toEqual(numbers(0, 20))
    expect(warnings).toEqual([expect.stringContaining('does not exist yet'), `${path}: is being read now`])
  })

  it('is missing at the start with its folder', async () => {
    const file = join(folder, 'log', 'gate', 'knock.log')
    await follow(file)
    await warns(/does not exist yet/)
    mkdirSync(join(folder, 'log', 'gate'), { recursive: true })
    writeFileSync(file, text(0, 10))
    await hears(10)
    appendFileSync(file, text(10, 20))
    await hears(20)
    expect(heard()).toEqual(numbers(0, 20))
  })

  it('is a link, and the link is turned to another file', async () => {
    const tell = await makeWriter()
    const link = join(folder, 'link')
    mkdirSync(join(folder, 'next'))
    symlinkSync(path, link)
    await follow(link)
    tell({ write: lines(0, 1_000) })
    await hearsNumber(0)
    tell({ reopen: join(folder, 'next', 'knock.log') })
    tell({ link: [join(folder, 'next', 'knock.log'), link] })
    tell({ write: lines(1_000, 2_000) })
    await hears(2_000)
    expect([heard(), warnings]).toEqual([numbers(0, 2_000), []])
  })

  it('is deleted, written to still, and made anew', async () => {
    const tell = await makeWriter()
    await follow()
    await tell({ write: lines(0, 500) })
    rmSync(path)
    await tell({ write: lines(500, 1_000), within: 100 })
    tell({ reopen: path })
    tell({ write: lines(1_000, 1_500) })
    await hears(1_500)
    expect([heard(), warnings]).toEqual([numbers(0, 1_500), []])
  })

  it('gets its old name back', async () => {
    writeFileSync(path, '')
    await follow()
    appendFileSync(path, text(0, 10))
    renameSync(path, `${path}.1`)
    writeFileSync(path, text(10, 20))
    await hears(20)
    renameSync(`${path}.1`, path)
    appendFileSync(path, text(20, 30))
    await hears(30)
    expect([heard(), warnings]).toEqual([numbers(0, 30), []])
  })

  it('lies in a folder that is renamed and made anew', async () => {
    const logs = join(folder, 'logs')
    const file = join(logs, 'knock.log')
    mkdirSync(logs)
    writeFileSync(file, '')
    await follow(file)
    appendFileSync(file, text(0, 10))
    renameSync(logs, `${logs}.old`)
    mkdirSync(logs)
    writeFileSync(file, text(10, 20))
    await hears(20)
    appendFileSync(file, text(20, 30))
    appendFileSync(join(`${logs}.old`, 'knock.log'), text(30, 40))
    await hears(40)
    expect([heard(), warnings]).toEqual([numbers(0, 40), []])
  })
})

/** Shifts what follows so that after 64 KiB, which are read in one piece, half of a line's numbers stand. */
const PAD = `${'x'.repeat((64 * 1024 - line(0).indexOf('DST=')) % (line(0).length + 1))}\n`

describe('copytruncate while the writer writes', () => {
  it('loses what was unread at the cut and no more, splices nothing, and is warned of once', async () => {
    const tell = await makeWriter()
    await follow()
    const mayBeLost = new Set<number>()
    for (let n = 0; n < 4_000; n += 400) {
      tell({ write: lines(n, n + 200) })
      const before = new Set(heard())
      await tell({ truncate: path })
      for (const unheard of numbers(0, n + 200).filter((number) => !before.has(number))) mayBeLost.add(unheard)
      tell({ write: lines(n + 200, n + 400), within: 5 })
      await hearsNumber(n + 399)
    }
    const whole = new Set(heard())
    expect(whole.has(SPLICED)).toBe(false)
    expect(numbers(0, 4_000).filter((n) => !whole.has(n) && !mayBeLost.has(n))).toEqual([])
    expect(warnings).toEqual([expect.stringMatching(/was truncated .*"create".*"copytruncate".*source = "nflog"/)])
  })

  it('splices no line that was half read with what takes its place', async () => {
    writeFileSync(path, '')
    await follow()
    for (let n = 0; n < 100; n++) {
      const at = 60 + ((7 * n) % 180)
      writeFileSync(path, `${line(3 * n)}\n${line(3 * n + 1).slice(0, at)}`)
      await hearsNumber(3 * n)
      // Of the same length to the byte, and then the rest of a line in the place of the other.
      writeFileSync(path, `${line(3 * n + 1)}\n${line(3 * n + 2)}\n`)
      await hearsNumber(3 * n + 2)
    }
    expect(heard()).not.toContain(SPLICED)
  })

  it('splices nothing where it comes between two pieces of one reading', async () => {
    // By another name in another folder, which is not watched: a watch would tell before the second piece is there.
    const unwatched = join(folder, 'unwatched')
    mkdirSync(unwatched)
    writeFileSync(path, '')
    linkSync(path, join(unwatched, 'log'))
    const refills = new Map(numbers(0, 20).map((n) => [1_000 * n, text(1_000 * n + 500, 1_000 * n + 1_000)]))
    source = fileSource(path, 'KNOCK: ', () => {})
    await source.start(
      (tap) => {
        taps.push(tap)
        // When the first piece has been read: as long as what it takes the place of, and the pieces' border is within a line's numbers.
        const refill = refills.get(numberOf(tap))
        if (!refill) return
        refills.delete(numberOf(tap))
        // Behind the look that follows on each piece, and with node's threads busy, so that the next piece comes later still.
        for (let thread = 0; thread < 4; thread++) pbkdf2('', '', 10_000, 32, 'sha256', () => {})
        process.nextTick(setImmediate, () => writeFileSync(join(unwatched, 'log'), PAD + refill))
      },
      () => {},
    )
    for (let n = 0; n < 20_000; n += 1_000) {
      writeFileSync(path, PAD + text(n, n + 500))
      await hearsNumber(n + 999)
    }
    expect(heard()).not.toContain(SPLICED)
  })

  it('splices nothing whatever comes in whatever order', async () => {
    let n = 0
    let rest = ''
    const write = fc.nat(400).map((length) => () => {
      while (rest.length < length) rest += `${line(n++)}\n`
      appendFileSync(path, rest.slice(0, length))
      rest = rest.slice(length)
    })
    const cut = fc.constant(() => truncateSync(path, 0))
    const refill = fc.nat(5).map((count) => () => {
      rest = ''
      writeFileSync(path, lines(n, n + count).join('\n'))
      n += count
    })
    const wait = fc.nat(5).map((turns) => async () => {
      for (let i = 0; i < turns; i++) await nextTurn()
    })
    const heardSoon = fc.constant(() => new Promise((resolve) => setTimeout(resolve, 25)))
    const step = fc.oneof(
      { arbitrary: write, weight: 6 },
      { arbitrary: cut, weight: 1 },
      { arbitrary: refill, weight: 2 },
      { arbitrary: wait, weight: 6 },
      { arbitrary: heardSoon, weight: 1 },
    )
    writeFileSync(path, '')
    await follow()
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async (steps) => {
        for (const act of steps) await act()
        expect(heard()).not.toContain(SPLICED)
      }),
      { numRuns: 30 },
    )
    rest = ''
    writeFileSync(path, text(n, n + 10))
    await hearsNumber(n + 9)
    expect(heard()).toEqual(expect.arrayContaining(numbers(n, n + 10)))
  })
})

describe('what is in the file at the start', () => {
  it('is not heard, and what is written next is', async () => {
    writeFileSync(path, text(0, 100))
    await follow()
    appendFileSync(path, text(100, 110))
    await hears(10)
    expect([heard(), source.counters]).toEqual([numbers(100, 110), { seen: 10, ignored: 0, unreadable: 0, dropped: null }])
  })

  it('is no part of a tap where its last line is half written', async () => {
    writeFileSync(path, `${line(0)}\n${line(1).slice(0, 150)}`)
    await follow()
    appendFileSync(path, `${line(1).slice(150)}\n${line(2)}\n`)
    await hears(1)
    expect([heard(), source.counters.ignored]).toEqual([[2], 1])
  })

  it('is not heard when the file is renamed, and nor is it when it is cut later', async () => {
    writeFileSync(path, text(0, 100))
    await follow()
    renameSync(path, `${path}.1`)
    appendFileSync(`${path}.1`, text(100, 110))
    await hears(10)
    writeFileSync(path, text(110, 120))
    await hears(20)
    expect(heard()).toEqual(numbers(100, 120))
  })
})

describe('what is no LOG line', () => {
  const TEN_MEGABYTES = 10 * 1024 * 1024
  it.each([
    ['a line of 10 MB', `${'x'.repeat(TEN_MEGABYTES)}\n`, 1],
    ['10 MB of a LOG line’s beginning', `${'KNOCK: IN=eth0 OUT= '.repeat(TEN_MEGABYTES / 20)}\n`, 1],
    ['a LOG line behind more than a line may hold', `${'x'.repeat(MAX_LINE)} ${line(0)}\n`, 1],
    ['NULs', Buffer.alloc(100_000), 1],
    ['NULs with a line’s end', Buffer.from(`${'\0'.repeat(50)}\n`), 1],
    ['invalid UTF-8', Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x0a, 0xe2, 0x82, 0x0a, 0xf0, 0x9f]), 3],
    ['empty lines', '\n'.repeat(1_000), 1_000],
    ['a LOG line with a NUL in it', `${line(0).replace('TTL', '\0TTL')}\n`, 1],
  ])('%s does no harm to what follows, and is counted', async (_, junk, count) => {
    writeFileSync(path, '')
    await follow()
    appendFileSync(path, junk)
    appendFileSync(path, `\n${text(1, 4)}`)
    await hears(3)
    const { seen, ignored } = source.counters
    const isLineOpen = !junk.toString('latin1').endsWith('\n')
    expect([heard(), ignored, seen - ignored]).toEqual([[1, 2, 3], isLineOpen ? count : count + 1, 3])
  })

  it('a line in pieces is one line', async () => {
    writeFileSync(path, '')
    await follow()
    for (const piece of line(7).match(/.{1,100}/g) ?? []) {
      appendFileSync(path, piece)
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    appendFileSync(path, '\n')
    await hears(1)
    expect([heard(), source.counters]).toEqual([[7], { seen: 1, ignored: 0, unreadable: 0, dropped: null }])
  })

  it('the hole that a writer leaves which does not append is passed over', async () => {
    const NO_APPEND =
      "const f=require('fs'),d=f.openSync(process.argv[1],'r+');let at=0;process.on('message',t=>{at+=f.writeSync(d,t,at)})"
    writeFileSync(path, '')
    await follow()
    const child = fork('-e', [NO_APPEND, path], { execArgv: [] })
    endings.push(() => child.kill('SIGKILL'))
    child.send(text(0, 100))
    await hears(100)
    truncateSync(path, 0)
    child.send(text(100, 200))
    await hearsNumber(199)
    // The first behind the hole has the hole in front of it.
    expect(heard()).toEqual([...numbers(0, 100), ...numbers(101, 200)])
  })
})

describe('what cannot be read', () => {
  it.each([
    ['a folder', () => mkdirSync(path), /knock\.log: is not a regular file/],
    ['a pipe', () => execFileSync('mkfifo', [path]), /knock\.log: is not a regular file/],
    [
      'a link to itself',
      () => symlinkSync(path, path),
      /knock\.log: cannot be read: ELOOP.*: let the daemon's user read it, or set/,
    ],
  ])('is %s at the start, and is refused in one line', async (_, make, message) => {
    make()
    const failure = await follow().catch((error) => error)
    expect(failure).toBeInstanceOf(Fault)
    expect(inOneLine(failure)).toMatch(message)
  })

  it('later is said once, and so is its end', async () => {
    writeFileSync(path, '')
    await follow()
    renameSync(path, `${path}.1`)
    symlinkSync(path, path)
    await warns(/cannot be read: ELOOP/)
    // What had the name is followed still.
    appendFileSync(`${path}.1`, text(0, 10))
    await hears(10)
    rmSync(path)
    writeFileSync(path, text(10, 20))
    await hears(20)
    expect(warnings).toEqual([expect.stringContaining('ELOOP'), `${path}: is being read now`])
  })
})

describe('descriptors', () => {
  it('are few after many rotations, one when the old files rest, and none after the end', async () => {
    writeFileSync(path, '')
    await follow()
    for (let n = 0; n < 3 * MAX_FILES; n++) {
      appendFileSync(path, text(n, n + 1))
      await hears(n + 1)
      renameSync(path, `${path}.${n}`)
      writeFileSync(path, '')
    }
    // And one that the last look may just be reading by.
    expect(held()).toBeLessThanOrEqual(MAX_FILES + 1)
    await vi.waitUntil(() => held() === 1, { timeout: 20_000 })
    appendFileSync(path, text(100, 101))
    await hearsNumber(100)
    await source.stop()
    await vi.waitUntil(() => held() === 0, { timeout: 20_000 })
    expect(warnings).toEqual([])
  })
})

describe('after the end', () => {
  it('nothing is heard', async () => {
    writeFileSync(path, '')
    await follow()
    appendFileSync(path, text(0, 10))
    await source.stop()
    const before = taps.length
    appendFileSync(path, text(10, 20))
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(taps.length).toBe(before)
  })
})
