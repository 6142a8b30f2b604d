import { describe, expect, it } from 'vitest'
import { type Hearing, ProbeWatch, type Signs } from '../../src/gate/hearing'

/** Seconds between two looks, and looks between two probes. */
const LOOK = 5
const EACH = 2
const MINUTE = 60

interface Course {
  readonly seconds: number
  /** Whether a probe is sent at every second look; whether it arrives; and what else does at each look. */
  readonly isSent?: boolean
  readonly isHeard?: boolean
  readonly others?: number
  readonly drops?: number
}

/** What a daemon thinks of its hearing at each look of courses that follow each other. */
function live({ isSure = true, lives = 0 }, ...courses: readonly Course[]): Hearing[] {
  const watch = new ProbeWatch(isSure, lives)
  let steady = 1_000_000
  let [sent, arrived, probes, dropped, looks] = [0, 0, 0, 0, 0]
  return courses.flatMap(({ seconds, isSent = true, isHeard = true, others = 0, drops = 0 }) =>
    Array.from({ length: seconds / LOOK }, () => {
      if (isSent && looks++ % EACH === 0) {
        sent++
        if (isHeard) probes++
        if (isHeard) arrived++
      }
      arrived += others
      dropped += drops
      const signs: Signs = { sent: sent === 0 ? null : `${sent}`, arrived, probes, dropped }
      steady += 1_000 * LOOK
      return watch.look(signs, steady)
    }),
  )
}
const deafAfter = (all: readonly Hearing[]) => (all.includes('deaf') ? LOOK * (all.indexOf('deaf') + 1) : null)
const HEARS = { seconds: 10 * MINUTE }
const DEAF = { seconds: 5 * MINUTE, isHeard: false }

describe('a daemon to which probes are sent', () => {
  it('hears well on the quietest day', () => {
    expect(new Set(live({}, HEARS))).toEqual(new Set(['well']))
  })

  it('is deaf when no probe arrives any more, within a minute and not before three were in vain', () => {
    const after = deafAfter(live({}, HEARS, DEAF)) as number
    expect([after - HEARS.seconds > 2 * EACH * LOOK, after - HEARS.seconds <= MINUTE]).toEqual([true, true])
  })

  it('is deaf from its start when none has ever arrived', () => {
    expect(deafAfter(live({}, DEAF))).toBeLessThanOrEqual(MINUTE)
  })

  it('is not deaf for one probe that is lost, again and again', () => {
    const lost = { seconds: EACH * LOOK, isHeard: false }
    const heard = { seconds: EACH * LOOK }
    expect(deafAfter(live({}, HEARS, ...Array(20).fill([lost, heard]).flat()))).toBeNull()
  })

  it('is not deaf while anything else arrives', () => {
    expect(deafAfter(live({}, HEARS, { ...DEAF, others: 1 }))).toBeNull()
  })

  it('is not deaf while the kernel drops packets for want of room', () => {
    expect(deafAfter(live({}, HEARS, { ...DEAF, drops: 1_000 }))).toBeNull()
  })

  it('is deaf when the flood is over and still nothing arrives', () => {
    expect(deafAfter(live({}, { ...DEAF, drops: 1_000 }, DEAF))).not.toBeNull()
  })

  it('hears again as soon as anything arrives', () => {
    const all = live({}, HEARS, DEAF, HEARS)
    expect(all.slice(-HEARS.seconds / LOOK).slice(1)).toEqual(Array(HEARS.seconds / LOOK - 1).fill('well'))
  })

  it('is not deaf for its helper’s being restarted, which counts anew', () => {
    const watch = new ProbeWatch(true)
    const looks = ['7', '1', '2', '3'].map((sent, i) =>
      watch.look({ sent, arrived: i + 1, probes: i + 1, dropped: 0 }, 10_000 * i),
    )
    expect(looks).toEqual(Array(4).fill('well'))
  })
})

describe('a daemon to which no probe is sent', () => {
  it('is not taken for deaf, however quiet it is, and it is known that nobody can tell', () => {
    const all = live({}, { seconds: 60 * MINUTE, isSent: false })
    expect([deafAfter(all), all.at(0), all.at(-1)]).toEqual([null, 'well', 'alone'])
  })

  it('any more is not taken for deaf, since its helper has ended', () => {
    const all = live({}, HEARS, { seconds: 60 * MINUTE, isSent: false })
    expect([deafAfter(all), all.at(-1)]).toEqual([null, 'alone'])
  })
})

describe('a daemon that has never heard anything', () => {
  it('has twice the time of the one before, and is restarted once an hour at least', () => {
    const hours = { seconds: 180 * MINUTE, isHeard: false }
    const after = [0, 1, 2, 7, 100].map((lives) => deafAfter(live({ lives }, hours)) as number)
    const patience = [30, 60, 120, 3_600, 3_600]
    // From the first probe on, and by looks.
    expect(after.map((seconds, i) => seconds - (patience[i] as number) <= 2 * EACH * LOOK)).toEqual(Array(5).fill(true))
  })

  it('is not deaf where other rules may accept a probe before ours', () => {
    expect(deafAfter(live({ isSure: false }, { ...DEAF, seconds: 180 * MINUTE }))).toBeNull()
  })

  it('is not deaf there for what a stranger sends, nor restarted more often where probes are sure', () => {
    const stranger = { seconds: LOOK, isHeard: false, others: 1 }
    const quiet = { seconds: MINUTE, isHeard: false }
    expect(deafAfter(live({ isSure: false }, ...Array(60).fill([stranger, quiet]).flat()))).toBeNull()
    expect(deafAfter(live({ lives: 7 }, ...Array(50).fill([stranger, quiet]).flat()))).toBeNull()
  })

  it('is deaf there as soon as it has heard one, and then no more', () => {
    expect(deafAfter(live({ isSure: false }, HEARS, DEAF))).not.toBeNull()
  })

  it('waits no longer for having heard anything, whatever was before', () => {
    expect(deafAfter(live({ lives: 100 }, HEARS, DEAF))).toBeLessThanOrEqual(HEARS.seconds + MINUTE)
  })
})
