import { randomInt } from 'node:crypto'
import type { Config } from '../../daemon/config'
import type { Answer } from '../../daemon/orders/order'
import { poolOf } from '../../daemon/tap-rules'
import { type Check, unknown } from '../../system/check'
import { Fault, inOneLine } from '../../system/fault'
import { giveOrder } from '../orders'
import { type Ends, plugIn, unplug } from './place/cable'
import { inPlace, type Place } from './place/place'

/* Whether the daemon hears what comes from outside: a packet is sent to it by a private network, and it says whether it has seen it. */

/** The name of each of these checks, behind it the family. */
const NAME = 'packets heard'
/** Milliseconds between two packets to the daemon, which may look at what it is asked a second later only. */
const AGAIN = 400
/** How many: more than it takes for any daemon that answers. */
const MOST = 40

/**
 * Sends packets to a port of the pools from a private network, over each family that this machine has, and asks the running daemon whether it has
 * heard them. Nothing is opened, and nothing of it stays.
 * @param keys those that the daemon has
 * @returns one check for each family; where it can't be known at all, one
 */
export async function heardChecks(config: Config, keys: Parameters<typeof poolOf>[0]): Promise<Check[]> {
  const pool = poolOf(keys)
  if (pool.length === 0)
    return [unknown(NAME, 'there is no key, and so no port at which knocks are heard', 'make one with "knockturn key new"')]
  const port = pool[randomInt(pool.length)]
  try {
    return await inPlace({}, async (place) => {
      const cable = await plugIn(place, config.firewall.guard)
      try {
        return await Promise.all(cable.ends.map((ends) => heardOver(ends, place, port, config)))
      } finally {
        await unplug(cable)
      }
    })
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [unknown(NAME, `cannot be tried: ${error.message}`, error.hint)]
  }
}

async function heardOver({ family, host, strangers }: Ends, place: Place, port: number, config: Config): Promise<Check> {
  const name = `${NAME} over ${family}`
  const { taps } = config
  const [source] = strangers
  let isAnswered = false
  const asked = giveOrder(config, { kind: 'await-tap', source })
    .catch((error): Pick<Answer, 'heard' | 'failed'> => ({ failed: inOneLine(error) }))
    .finally(() => (isAnswered = true))
  for (let i = 0; i < MOST && !isAnswered; i++)
    await place.ask('touch', [[{ protocol: 'tcp', address: host, port, from: source }], AGAIN], AGAIN)
  const answer = await asked
  const sent = `a packet from ${source} to port ${port} of the pool, by a private network`
  if (answer === 'dead') return unknown(name, 'no daemon runs that could hear', 'start it: "systemctl start knockdaemon"')
  if (answer === 'silent') return unknown(name, 'the daemon has not answered what it was asked: it hangs, or is busy', LOOK)
  if (answer.failed !== undefined) return unknown(name, `the daemon was asked in vain: ${answer.failed}`)
  if (answer.heard) return { name, verdict: 'ok', evidence: `${sent}, has come to the daemon` }
  return {
    name,
    verdict: 'fault',
    evidence: `${sent}, has not come to the daemon (source "${taps.source}")`,
    remedy: REMEDIES[taps.source],
  }
}

const LOOK = 'look at it with "knockturn status"'

/** What to do where nothing is heard, by the source of taps. */
const REMEDIES: Readonly<Record<Config['taps']['source'], string>> = {
  nflog:
    'run "knockturn firewall install" and restart the daemon; if that does not help, a rule in front of the log rules drops it: look for ' +
    'it with "nft list ruleset" and "iptables-save"',
  file: 'run "knockturn firewall install", and look whether the log rules write to the file of [taps]: "knockturn firewall show"',
  journal: 'run "knockturn firewall install", and look whether "journalctl -k" shows lines with the prefix of [taps]',
  stdin: 'look whether what feeds the daemon’s standard input has the log rules’ lines',
}
