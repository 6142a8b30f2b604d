import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fitsInterface } from '../../../daemon/exposure/matches'
import type { Guard } from '../../../daemon/guard'
import { interfaceAddresses } from '../../../daemon/iptables/table'
import { blockAround, type Cidr, overlap, parseCidr } from '../../../protocol/address'
import { feed, run } from '../../../system/commands'
import { Hindrance } from './hindrance'
import type { Place } from './place'

/*
 * A cable to a private place: a pair of veth interfaces. Where this machine has one of them, that one, its addresses and its routes are gone when
 * the other one is, which is in the place from the start.
 */

/** Whom the guard spares. */
export type Sparing = Pick<Guard, 'interfaces' | 'blocks' | 'failOpen'>

/** The addresses of one family at both ends. */
export interface Ends {
  readonly family: 'IPv4' | 'IPv6'
  readonly host: string
  /** Those of the other end: it may be whom it likes. */
  readonly strangers: readonly [string, string]
  /** Bits of the network that all of them are in. */
  readonly bits: number
}

/** A cable that is plugged in. */
export interface Cable {
  /** The interface at the host's end. */
  readonly name: string
  /** Of each family that the host has. */
  readonly ends: readonly Ends[]
}

/** The blocks for documentation (RFC 5737, RFC 3849): nobody in the Internet has an address of theirs. */
const DOCUMENTATION = ['192.0.2', '198.51.100', '203.0.113']
const DOCUMENTATION6 = '2001:db8'
/** Addresses of the small blocks that we take of them, and their bits. */
const STEP = 8
const BITS = 29
const BITS6 = 64
/** Routes that lead to so much are ways out, and say of no address that it is taken: VPNs have 0.0.0.0/1. */
const MIN_BITS = 8
/** Draws of a block or a name before we say that none is free. */
const DRAWS = 256
/** Milliseconds for both ends to be up, and between two looks. */
const UP_LIMIT = 3_000
const LOOK = 30

/** Runs lines of ip at one end. */
type Batch = (lines: string) => Promise<void>
const here: Batch = (lines) => feed('ip', ['-batch', '-'], lines)

/**
 * Plugs a place into this machine, which is its way to everywhere.
 * @param sparing the other end is none of these
 * @throws {Fault} where no address is free that the guard does not spare, or the kernel can't
 */
export async function plugIn(place: Place, sparing: Sparing): Promise<Cable> {
  const taken = [...(await readRoutes()), ...sparing.blocks, ...(sparing.failOpen?.blocks ?? [])]
  const isFree = ({ host, bits }: Ends) => {
    const block = blockAround(host, bits)
    return block !== null && !taken.some((one) => overlap(one, block))
  }
  const isSpared = (name: string) => sparing.interfaces.some((spared) => fitsInterface(name, spared.replace(/\*$/, '+')))
  const name = draw(drawName, (one) => !isSpared(one))
  const ends = [draw(drawEnds, isFree)]
  if (interfaceAddresses().some(({ family }) => family === 'IPv6')) ends.push(draw(drawEnds6, isFree))
  if (name === null || ends.includes(null))
    throw new Hindrance('no address is free for a private network that the guard does not spare')
  return lay(
    name,
    here,
    '',
    place,
    ends.filter((one) => one !== null),
  )
}

/** Plugs a place into another one, which has every address to choose from. @throws {Fault} where the kernel can't */
export const join = (host: Place, place: Place): Promise<Cable> =>
  lay('eth0', (lines) => host.batch(lines), ` netns ${host.pid}`, place, [drawEnds()])

/**
 * @param at does something at the host's end
 * @param where in which network that is, for `ip link add`; empty: in that of this machine
 */
async function lay(name: string, at: Batch, where: string, place: Place, ends: readonly Ends[]): Promise<Cable> {
  const [ours, theirs] = [drawMac(), drawMac()]
  await here(`link add ${name} address ${ours}${where} type veth peer name eth0 address ${theirs} netns ${place.pid}\n`)
  try {
    await at(`link set ${name} up\n`)
    await place.batch('link set eth0 up\n')
    const laid: Ends[] = []
    for (const one of ends) {
      const { family, host, strangers, bits } = one
      const now = family === 'IPv6' ? ' nodad' : ''
      // Each knows the other: whether neighbours find each other is not what is asked here.
      const known = strangers.map((to) => `neighbour replace ${to} lladdr ${theirs} nud permanent dev ${name}`)
      const isThere = await at([`address add ${host}/${bits} dev ${name}${now}`, ...known, ''].join('\n')).then(
        () => true,
        (error) => {
          // A machine may have IPv6 and not want it on new interfaces.
          if (family === 'IPv4') throw error
          return false
        },
      )
      if (!isThere) continue
      const own = strangers.map((address) => `address add ${address}/${bits} dev eth0${now}`)
      const way = [`neighbour replace ${host} lladdr ${ours} nud permanent dev eth0`, `route add default via ${host} dev eth0`]
      await place.batch([...own, ...way, ''].join('\n'))
      laid.push(one)
    }
    await untilUp(place)
    return { name, ends: laid }
  } catch (error) {
    await at(`link delete ${name}\n`).catch(() => {})
    throw error
  }
}

/** Takes a cable of this machine's away at once: with its place alone it would go a moment later. */
export async function unplug({ name }: Cable): Promise<void> {
  await here(`link delete ${name}\n`).catch(() => {})
}

/** How many packets have come by this machine's end of a cable. @throws {Fault} where that can't be read */
export async function arrivedBy({ name }: Cable): Promise<number> {
  const [row] = JSON.parse(await run('ip', ['-j', '-s', 'link', 'show', name])) as { stats64?: { rx?: { packets?: number } } }[]
  return row?.stats64?.rx?.packets ?? 0
}

/** Packets that are sent before an interface is up are lost. */
async function untilUp(place: Place): Promise<void> {
  const began = performance.now()
  for (;;) {
    if ((await place.run(['ip', 'link', 'show', 'eth0'])).includes(' state UP ')) return
    if (performance.now() - began > UP_LIMIT) throw new Hindrance('the interface of the private network does not come up')
    await sleep(LOOK)
  }
}

/** The blocks that this machine's routes lead to. */
async function readRoutes(): Promise<Cidr[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => run('ip', [family, 'route', 'show', 'table', 'all']).catch(() => '')),
  )
  return routesIn(texts.join('\n'))
}

/** The blocks in what `ip route show table all` prints; none for ways out. */
export function routesIn(text: string): Cidr[] {
  return text.split('\n').flatMap((line) => {
    const [, to = ''] = /^(?:[a-z]+ )?([\d.]+\S*|[\da-f:]+:\S*)(?: |$)/.exec(line) ?? []
    const block = parseCidr(to)
    return block && block.bits >= MIN_BITS ? block : []
  })
}

/** Draws until something fits; null where nothing does. */
function draw<T>(one: () => T, fits: (drawn: T) => boolean): T | null {
  for (let i = 0; i < DRAWS; i++) {
    const drawn = one()
    if (fits(drawn)) return drawn
  }
  return null
}

const drawLetter = () => String.fromCharCode(97 + randomInt(26))
/** Begins with any letter: the guard may spare the names that begin with some. */
const drawName = () => `${drawLetter()}${drawLetter()}-${randomBytes(4).toString('hex')}`
const drawMac = () => ['02', ...(randomBytes(5).toString('hex').match(/../g) ?? [])].join(':')

function drawEnds(): Ends {
  const block = DOCUMENTATION[randomInt(DOCUMENTATION.length)]
  const first = STEP * randomInt(256 / STEP)
  const [host, one, other] = [1, 2, 3].map((n) => `${block}.${first + n}`)
  return { family: 'IPv4', host, strangers: [one, other], bits: BITS }
}

function drawEnds6(): Ends {
  const [a, b] = [randomInt(0x1000, 0x10000).toString(16), randomInt(0x1000, 0x10000).toString(16)]
  const [host, one, other] = [1, 2, 3].map((n) => `${DOCUMENTATION6}:${a}:${b}::${n}`)
  return { family: 'IPv6', host, strangers: [one, other], bits: BITS6 }
}
