import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { Pulse, type PulseSetup } from '../../src/daemon/pulse'
import type { TapCounters } from '../../src/daemon/taps/source'
import type { Tap } from '../../src/gate/tap'
import { scratch } from '../system/scratch'

const LOOK = 5_000
const MINUTE = 60_000
const POOL = Uint16Array.from({ length: 16_384 }, (_, i) => 49_152 + i)

let folder: string
let told: string[]
let said: string[]
let counters: TapCounters
let pool: Uint16Array
/** Probes that were sent. */
let sent: number

beforeEach(() => {
  folder = join(scratch(), 'knockturn')
  mkdirSync(folder)
  mkdirSync(`${folder}-probe`)
  told = []
  said = []
  counters = { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }
  pool = POOL
  sent = 0
})

const has = (name: string) => existsSync(join(folder, name))
const text = (name: string) => readFileSync(join(folder, name), 'utf8').trim()
const log = Object.fromEntries(
  ['info', 'warn', 'error'].map((level) => [level, (line: string) => said.push(`${level} ${line}`)]),
) as unknown as Logger

/** A daemon's pulse, which has begun: its looks are the test's. */
async function begun(more: Partial<PulseSetup> = {}) {
  const notify = async (...words: string[]) => void told.push(words.join(' '))
  const manager = { folder, watchdog: MINUTE, notify }
  const pulse = new Pulse({ manager, taps: { counters }, isProbed: true, isSure: true, pool: () => pool, log, ...more })
  await pulse.begin(AbortSignal.abort())
  let steady = performance.now()
  return {
    pulse,
    /** What was told and shown in looks that follow each other, with a probe before each second one. */
    async looks(count: number, { isSent = true, isHeard = true } = {}) {
      const since = told.length
      const beats = new Set<string>()
      for (let n = 0; n < count; n++) {
        if (isSent && n % 2 === 0) {
          writeFileSync(join(`${folder}-probe`, 'sent'), `${++sent}\n`)
          if (isHeard) counters.seen++
          if (isHeard && has('probe')) pulse.isProbe({ port: Number(text('probe')), source: '127.0.0.1' } as Tap)
        }
        steady += LOOK
        await pulse.look(steady)
        beats.add(text('alive'))
      }
      return { fed: told.slice(since).filter((words) => words === 'WATCHDOG=1').length, beats: beats.size }
    },
  }
}

describe('of its hearing a daemon says', () => {
  it('that it does not hear yet, before it does', () => {
    const manager = { folder, watchdog: MINUTE, notify: async () => {} }
    const pulse = new Pulse({ manager, taps: { counters }, isProbed: true, isSure: true, pool: () => pool, log })
    expect(pulse.hearing).toBe('waiting')
  })

  it('that it is not known, until a probe has arrived', async () => {
    const { pulse, looks } = await begun()
    const before = pulse.hearing
    await looks(2)
    expect([before, pulse.hearing]).toEqual(['unknown', 'well'])
  })

  it('that it is not known, where no probes are sent', async () => {
    const { pulse, looks } = await begun({ isProbed: false })
    await looks(2)
    expect(pulse.hearing).toBe('unknown')
  })

  it('that it is deaf, where they no longer arrive', async () => {
    const { pulse, looks } = await begun()
    await looks(2)
    await looks(20, { isHeard: false })
    expect(pulse.hearing).toBe('deaf')
  })
})

describe('a daemon that hears', () => {
  it('tells systemd that it is ready, once it has shown that it is alive', async () => {
    await begun()
    expect([told, has('alive'), has('probe')]).toEqual([['WATCHDOG=1', '--ready --status='], true, true])
  })

  it('feeds the watchdog four times within its period, and has another heartbeat at each look', async () => {
    const { looks } = await begun()
    expect(await looks(120)).toEqual({ fed: 40, beats: 120 })
    expect(said).toEqual([])
  })

  it('has a heartbeat that no other life has', async () => {
    await begun()
    const first = text('alive')
    await begun()
    expect(text('alive')).not.toBe(first)
  })

  it('writes down a port of the pool that everybody may read, and takes what comes there by loopback for a probe, and nothing else', async () => {
    const { pulse } = await begun()
    const port = Number(text('probe'))
    expect([POOL.includes(port), statSync(join(folder, 'probe')).mode & 0o777]).toEqual([true, 0o644])
    const tap = { source: '127.0.0.1', destination: '127.0.0.1', port }
    expect([tap, { ...tap, port: port - 1 }, { ...tap, source: '198.51.100.2' }].map((one) => pulse.isProbe(one))).toEqual([
      true,
      false,
      false,
    ])
  })

  it('keeps the port as long as it is in the pool, and has none without a key', async () => {
    const { looks } = await begun()
    const before = text('probe')
    pool = Uint16Array.from([...POOL, 20_000])
    await looks(1)
    expect(text('probe')).toBe(before)
    pool = Uint16Array.of(20_000)
    await looks(1)
    expect(text('probe')).toBe('20000')
    pool = new Uint16Array()
    expect(await looks(120, { isHeard: false })).toMatchObject({ beats: 120 })
    expect([has('probe'), said]).toEqual([false, []])
  })
})

describe('a daemon that hears nothing any more', () => {
  it('is silent then, and says so once before', async () => {
    const { looks } = await begun()
    await looks(20)
    await looks(20, { isHeard: false })
    expect(await looks(20, { isHeard: false })).toEqual({ fed: 0, beats: 1 })
    expect(said).toEqual([expect.stringMatching(/^error no packet has arrived/)])
  })

  it('shows that it is alive again if it hears before it is restarted', async () => {
    const { looks } = await begun()
    await looks(20)
    await looks(20, { isHeard: false })
    expect(await looks(20)).toEqual({ fed: expect.any(Number), beats: 20 })
    expect(said.at(-1)).toMatch(/^info probes arrive again/)
  })

  it('goes on as long as the kernel drops what it can’t take', async () => {
    const { looks } = await begun()
    await looks(20)
    for (let n = 0; n < 20; n++) {
      counters.dropped = (counters.dropped ?? 0) + 1
      await looks(1, { isHeard: false })
    }
    expect(said).toEqual([])
  })

  it('leaves word for the next one if it has never heard anything, which forgets that when it hears', async () => {
    for (const life of ['1', '2', '3']) {
      const { looks } = await begun()
      await looks(200, { isHeard: false })
      expect(text('unheard')).toBe(life)
    }
    const { looks } = await begun()
    await looks(2)
    expect(has('unheard')).toBe(false)
  })
})

describe('a daemon to which nobody sends probes', () => {
  it('goes on, and says once that nobody can tell whether it hears', async () => {
    const { looks } = await begun()
    expect(await looks(1_000, { isSent: false })).toMatchObject({ beats: 1_000 })
    expect(said).toEqual([expect.stringContaining('nobody sends probes')])
  })

  it('says nothing of it without a watchdog', async () => {
    const { looks } = await begun({ manager: { folder, watchdog: null, notify: async () => {} } })
    await looks(100, { isSent: false })
    expect(said).toEqual([])
  })

  it('has no port for them where its source is a log, which would show each of them', async () => {
    const { looks } = await begun({ isProbed: false })
    expect(await looks(100, { isHeard: false })).toMatchObject({ beats: 100 })
    expect([has('probe'), said]).toEqual([false, []])
  })
})

describe('a daemon without systemd', () => {
  it('shows nothing, and tells nobody', async () => {
    const { pulse } = await begun({
      manager: { folder: null, watchdog: null, notify: async () => {} },
    })
    await pulse.look(performance.now() + MINUTE)
    expect([has('alive'), has('probe'), said]).toEqual([false, false, []])
  })
})

describe('a daemon that can’t show anything', () => {
  it('says so once, and goes on', async () => {
    const notify = () => Promise.reject(new Error('no such socket'))
    const pulse = new Pulse({
      manager: { folder: join(folder, 'missing'), watchdog: MINUTE, notify },
      taps: { counters },
      isProbed: true,
      isSure: true,
      pool: () => pool,
      log,
    })
    await pulse.begin(AbortSignal.abort())
    await pulse.look(performance.now() + LOOK)
    expect(said).toEqual([expect.stringContaining('cannot show that the daemon is alive')])
  })
})
