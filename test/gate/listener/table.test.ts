import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Table } from '../../../src/gate/listener/table'
import { QUORUM, rendezvous } from '../../../src/protocol/codebook'
import { keyOf, WINDOW } from './ear'

const keys = Array.from({ length: 60 }, (_, n) => keyOf(n))
/** Ports of which each is one of several candidates. */
const PORTS = [...new Set(keys.flatMap((key) => [...rendezvous(key, WINDOW)]))]

/** Brings a table up to a window. */
const turned = (table: Table, window = WINDOW) => {
  while (!table.sync((window + 0.5) * 30_000, 7)) {}
}
const quorums = (heard: ReadonlySet<number>, port: number) =>
  keys.filter((key) => {
    const ports = [...rendezvous(key, WINDOW)]
    return ports.includes(port) && ports.filter((one) => heard.has(one)).length >= QUORUM
  })

it('suspects every candidate of a port whose quorum was heard, whatever was heard and forgotten before', () => {
  const table = new Table(1)
  table.setKeys(keys)
  turned(table)
  fc.assert(
    fc.property(fc.array(fc.nat(PORTS.length - 1), { minLength: 200, maxLength: 1_500 }), (moves) => {
      const tally = table.newTally()
      const heard = new Set<number>()
      for (const port of moves.map((n) => PORTS[n])) {
        if (heard.delete(port)) {
          table.forget(port, tally)
          continue
        }
        heard.add(port)
        const suspects = table.suspects(port, tally).flatMap(({ key, window }) => (window === WINDOW ? [key] : []))
        for (const key of quorums(heard, port)) expect(suspects).toContain(key)
      }
    }),
    { numRuns: 20 },
  )
})

it('suspects none of whose quorum too little was heard, where no two candidates share a counter', () => {
  const table = new Table(0)
  table.setKeys([keys[0]])
  turned(table)
  const tally = table.newTally()
  const counts = [...rendezvous(keys[0], WINDOW)].map((port) => table.suspects(port, tally).length)
  expect(counts).toEqual([0, 0, 0, 1, 1, 1, 1, 1])
})

it('points to the candidates of now alone, however often windows have passed', () => {
  const table = new Table(1)
  table.setKeys(keys)
  for (let window = WINDOW - 198; window <= WINDOW; window += 3) turned(table, window)
  const fresh = new Table(1)
  fresh.setKeys(keys)
  turned(fresh)
  const all = Array.from({ length: 65_536 }, (_, port) => port)
  const pointers = (of: Table) => {
    // Heard once too seldom, each by itself, and then once more.
    const names = (port: number) => {
      const tally = of.newTally()
      for (let i = 0; i < QUORUM - 1; i++) of.suspects(port, tally)
      const suspects = of.suspects(port, tally).map(({ key, window }) => `${keys.indexOf(key)} ${window}`)
      return `${port}: ${suspects.sort().join()}`
    }
    return all.filter((port) => of.knows(port)).map(names)
  }
  expect(pointers(table)).toEqual(pointers(fresh))
})

it('tells of a tally that was made before a key came', () => {
  const table = new Table(1)
  table.setKeys(keys.slice(1))
  turned(table)
  const tally = table.newTally()
  expect(table.isCurrent(tally)).toBe(true)
  table.setKeys(keys)
  turned(table)
  expect(table.isCurrent(tally)).toBe(false)
})
