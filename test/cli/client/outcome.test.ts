import { describe, expect, it } from 'vitest'
import { openingOf, outcomesOf } from '../../../src/cli/client/outcome'
import type { Outcome } from '../../../src/client/lookout'
import type { Opening } from '../../../src/protocol/opening'

describe('of a port that is open', () => {
  it.each<[Opening, string]>([
    ['opened', 'port 22 has opened'],
    ['before', "port 22 was already open: only the server's log shows whether it accepted this knock"],
    ['unclear', "port 22 is open: only the server's log shows whether it accepted this knock"],
  ])('it is said what is known of it: %s', (opening, said) => {
    expect(openingOf(22, opening)).toBe(said)
  })
})

describe('of all ports', () => {
  it.each<[string, [number, Outcome][], string]>([
    ['one that is silent', [[22, 'silence']], 'port 22 has not answered within 30 s'],
    ['one that could not be reached', [[22, 'EHOSTUNREACH']], 'port 22 has not answered within 30 s'],
    ['one that refuses', [[443, 'refused']], 'port 443 refuses connections'],
    [
      'which has opened and which has not',
      [
        [443, 'silence'],
        [22, 'opened'],
      ],
      'port 22 has opened; port 443 has not answered within 30 s',
    ],
    [
      'several of each kind, in one order',
      [
        [1, 'silence'],
        [2, 'refused'],
        [3, 'opened'],
        [4, 'before'],
        [5, 'ETIMEDOUT'],
        [6, 'refused'],
        [7, 'opened'],
        [8, 'before'],
        [9, 'unclear'],
      ],
      'ports 4, 8 were already open; ports 3, 7 have opened; port 9 is open; ports 2, 6 refuse connections; ports 1, 5 have not answered within 30 s',
    ],
  ])('it is said %s', (_, outcomes, said) => {
    expect(outcomesOf(new Map(outcomes), 30)).toBe(said)
  })
})
