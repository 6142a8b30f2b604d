import { Socket } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { knockByEither, worthOf } from '../../src/client/either'
import type { Beside, WaitResult } from '../../src/client/wait-result'
import { Fault } from '../../src/system/fault'

/* Two families, by knocks that are made up; test/e2e/families.test.ts has real ones. */

const [IPV4, IPV6] = ['198.51.100.1', '2001:db8:7::1']

interface Aimed {
  host: string
  address: string
  other: (() => Promise<Aimed>) | null
  say: null
}
const aimed = (address: string, other: Aimed['other'] = null): Aimed => ({ host: 'gate.example', address, other, say: null })
const both = () => aimed(IPV6, async () => aimed(IPV4))
const unsent = async () => {
  throw new Fault('nothing could be sent')
}
const forever = ({ signal }: Beside) =>
  new Promise<string>((resolve) => {
    signal.addEventListener('abort', () => resolve('ended'))
  })
const silent = (beside: Beside) => {
  beside.silent()
  return forever(beside)
}

/** How knocking ends, by what a knock by each family does: `open` is worth an end, and `answered` to be told of. */
async function ended(
  by6: (beside: Beside) => Promise<string>,
  by4: (beside: Beside) => Promise<string>,
  first = both(),
  limit = 60_000,
) {
  const dropped: string[] = []
  const knock = ({ address }: Aimed, _limit: number, beside: Beside) => (address === IPV6 ? by6 : by4)(beside)
  const { by, result, note } = await knockByEither(
    first,
    limit,
    knock,
    (result) => (result === 'open' ? 'end' : result === 'answered' ? 'told' : 'nothing'),
    (result) => dropped.push(result),
  )
  await new Promise(setImmediate)
  return { by: by.address, result, hasNote: note !== null, dropped }
}
const open = async () => 'open'
const shut = async () => 'shut'

describe('a server with an address of each family', () => {
  it('is knocked at by the second, where nothing can be sent by the first', async () => {
    expect(await ended(unsent, open)).toEqual({ by: IPV4, result: 'open', hasNote: true, dropped: [] })
  })

  it('is knocked at by the second, where the first is silent, which then is ended', async () => {
    expect(await ended(silent, open)).toEqual({ by: IPV4, result: 'open', hasNote: true, dropped: ['ended'] })
  })

  it('is not, where the first has ended', async () => {
    expect(await ended(shut, open)).toEqual({ by: IPV6, result: 'shut', hasNote: false, dropped: [] })
  })

  it('has the second ended, where the first opens after all', async () => {
    const late = async (beside: Beside) => {
      beside.silent()
      await new Promise(setImmediate)
      return 'open'
    }
    expect(await ended(late, forever)).toEqual({ by: IPV6, result: 'open', hasNote: false, dropped: ['ended'] })
  })

  it('has the first told of, where neither opens', async () => {
    const late = async (beside: Beside) => {
      beside.silent()
      return 'shut'
    }
    expect(await ended(late, shut)).toMatchObject({ by: IPV6, result: 'shut' })
  })

  it.each([
    ['the first told of, where both are answered', 'answered', IPV6, 'answered'],
    ['the one told of that is answered, where the other is silent', 'shut', IPV4, 'answered'],
  ])('has %s', async (_, first, by, result) => {
    const late = async (beside: Beside) => {
      beside.silent()
      return first
    }
    expect(await ended(late, async () => 'answered')).toEqual({ by, result, hasNote: true, dropped: [] })
  })

  it('has the fault of the first told, where neither can be sent', async () => {
    const second = () => Promise.reject(new Fault('nor so'))
    await expect(ended(unsent, second)).rejects.toThrow('nothing could be sent')
  })

  describe('has nothing said of both', () => {
    const late = async (beside: Beside) => {
      beside.silent()
      await new Promise(setImmediate)
      return 'shut'
    }

    it('where the second can’t be made', async () => {
      const alone = aimed(IPV6, () => Promise.reject(new Fault('nobody tells this address')))
      expect(await ended(late, open, alone)).toMatchObject({ by: IPV6, result: 'shut', hasNote: false })
    })

    it('where no time is left for the second, of which nothing is sent', async () => {
      const by4 = vi.fn(shut)
      expect(await ended(late, by4, both(), 0)).toMatchObject({ by: IPV6, result: 'shut', hasNote: false })
      expect(by4).not.toHaveBeenCalled()
    })
  })
})

it('a server with one address has a fault told as it is', async () => {
  await expect(ended(unsent, open, aimed(IPV6))).rejects.toThrow('nothing could be sent')
})

describe('the end of a knocking is worth', () => {
  const end = (isOpen: boolean, isFinal: boolean, ...touched: string[]): WaitResult => ({
    ...{ outcomes: new Map(), seen: new Set<string>() },
    ...{ isOpen, isFinal, touched: new Set(touched) },
  })

  it.each<[string, WaitResult | Socket, string]>([
    ['an end where all is open', end(true, false), 'end'],
    ['an end where nothing can change any more', end(false, true), 'end'],
    ['an end where there is a connection', new Socket(), 'end'],
    ['to be told of where the touches are accepted', end(false, false, 'open'), 'told'],
    ['to be told of where a router says that there is no way', end(false, false, 'EHOSTUNREACH'), 'told'],
    ['nothing where all is silent', end(false, false), 'nothing'],
  ])('%s', (_, result, worth) => {
    expect(worthOf(result)).toBe(worth)
  })
})
