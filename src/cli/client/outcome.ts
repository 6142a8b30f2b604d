import type { ANSWERED, Outcome } from '../../client/lookout'
import type { Opening } from '../../protocol/opening'

/* How knocking has ended for each port, in words that say no more than is known. */

/** What is said of one port, and of several. */
const CALLED: Readonly<Record<Opening | typeof ANSWERED | 'refused', readonly [string, string]>> = {
  before: ['was already open', 'were already open'],
  opened: ['has opened', 'have opened'],
  unclear: ['is open', 'are open'],
  answered: [
    'answers, and so do the closed ports of the knock: something on the path answers for the server',
    'answer, and so do the closed ports of the knock: something on the path answers for the server',
  ],
  refused: ['refuses connections', 'refuse connections'],
}
const isCalled = (outcome: Outcome): outcome is keyof typeof CALLED => Object.hasOwn(CALLED, outcome)

/** What is said of a port as soon as it is open. */
export function openingOf(port: number, opening: Opening): string {
  const said = `port ${port} ${CALLED[opening][0]}`
  return opening === 'opened' ? said : `${said}: only the server's log shows whether it accepted this knock`
}

/** What is said of all ports at the end: which are open, which refuse, which are silent. @param wait seconds for which that was waited for */
export function outcomesOf(outcomes: ReadonlyMap<number, Outcome>, wait: number): string {
  const silent = [`has not answered within ${wait} s`, `have not answered within ${wait} s`] as const
  const kindOf = (outcome: Outcome) => (isCalled(outcome) ? CALLED[outcome] : silent)
  const clauses = [...Object.values(CALLED), silent].flatMap((kind) => {
    const ports = [...outcomes.keys()].filter((port) => kindOf(outcomes.get(port) as Outcome) === kind)
    if (ports.length === 0) return []
    return ports.length === 1 ? `port ${ports[0]} ${kind[0]}` : `ports ${ports.join(', ')} ${kind[1]}`
  })
  return clauses.join('; ')
}
