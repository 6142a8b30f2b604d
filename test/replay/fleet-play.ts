// Knocks at several gateways: users send them, and a listener who is as quick plays each at all gateways at the same moment.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesToHex } from '@noble/hashes/utils.js'
import { loadKeyFile } from '../../src/keys/keyring'
import { composeDatagram, datagramIdentity } from '../../src/protocol/datagram'
import { type Key, windowAt } from '../../src/protocol/key'
import { compose, identity } from '../../src/protocol/knock'
import { AS_SEEN, encodeRequest, type Request } from '../../src/protocol/request'
import { seal } from '../../src/protocol/seal'
import type { Agent } from '../lab/agent'
import { DATAGRAMS, DOOR, type Fleet, type Gateway, keyNames } from '../lab/fleet'
import { until } from '../lab/waiters'
import { shuffled } from '../random'
import { ROOT } from '../root'
import { grants, type KnockName, knockName } from './fleet-count'

const POSTING = join(ROOT, 'test/lab/posting.mjs')
/** Addresses of users, as many as there are knocks of one key before its leases are over. */
const ADDRESSES = 250
/** Seconds that a door stays open: short, because all keys together have 4,096 leases. */
const LEASE = 2
/** Of the listener, who has as many. */
const [USERS, LISTENERS] = ['10.66.0', '10.67.0']
/** Milliseconds for which nothing more must be logged before all is said. */
const QUIET = 1_500
/** Milliseconds in which a knock that opens at all is accepted. */
const SOON = 500
const LONGEST = 60_000

/** An address of the listener's, for one of a user's. */
const ownOf = (source: string) => source.replace(USERS, LISTENERS)

/** A knock that has been sent. */
export interface Played {
  readonly name: KnockName
  /** Of its datagram, in hex; empty: it was on ports. */
  readonly payload: string
  readonly source: string
  /** Steady milliseconds. */
  readonly at: number
}

/** Sends knocks of all keys in turn. */
export class Players {
  readonly #fleet: Fleet
  readonly #random: () => number
  readonly #keys: readonly Key[]
  readonly #fingerprints: readonly string[]
  readonly #agent: Agent
  /** All knocks so far, in order. */
  readonly played: Played[] = []
  /** How often knocks have been played again. */
  again = 0

  private constructor(fleet: Fleet, keys: readonly Key[], random: () => number, agent: Agent) {
    this.#fleet = fleet
    this.#keys = keys
    this.#fingerprints = keys.map(({ fingerprint }) => bytesToHex(fingerprint))
    this.#random = random
    this.#agent = agent
  }

  /** @param count of keys, which the fleet has been made with */
  static async begin(fleet: Fleet, count: number, random: () => number): Promise<Players> {
    const { listener } = fleet
    const addresses = [USERS, LISTENERS].flatMap((block) => Array.from({ length: ADDRESSES }, (_, n) => `${block}.${n + 1}`))
    const batch = addresses.map((address) => `address add ${address}/32 dev eth0\n`).join('')
    await listener.must(['ip', '-batch', '-'], { input: batch })
    const files = keyNames(count).map((id) => loadKeyFile(join(fleet.keyring, `${id}.key`), () => {}))
    const keys = (await Promise.all(files)).map(({ key }) => key)
    const agent = listener.agent(POSTING)
    await agent.ask('ready')
    return new Players(fleet, keys, random, agent)
  }

  /**
   * A user knocks at one gateway, and a listener at others at the same moment, or before: from the user's address, or their own.
   * @param at how many gateways there are all together
   */
  async knock(at = this.#fleet.gateways.length): Promise<Played> {
    const { key, request, about } = this.#next()
    const datagram = composeDatagram(key, windowAt(Date.now() / 1_000, key.period), request)
    const played = { ...about(datagramIdentity(datagram)), payload: bytesToHex(datagram) }
    this.played.push(played)
    const order = shuffled(this.#fleet.gateways, this.#random).slice(0, at)
    const user = Math.floor(this.#random() * at)
    const isSpoofed = this.#random() < 0.5
    this.again += at - 1
    await this.#post(order, played, (i) => (i === user || isSpoofed ? played.source : ownOf(played.source)))
    return played
  }

  /** A user knocks on ports of one gateway, and a listener on the same ones of all others at the same moment, by the user's address. */
  async knockOnPorts(): Promise<Played> {
    const { listener, gateways } = this.#fleet
    const { key, request, about } = this.#next()
    const window = windowAt(Date.now() / 1_000, key.period)
    const played = { ...about(identity(seal(key, window, encodeRequest(request)))), payload: '' }
    this.played.push(played)
    const touches = compose(key, window, request).map((port) => ({ protocol: 'tcp', port }))
    this.again += gateways.length - 1
    await Promise.all(shuffled(gateways, this.#random).map(({ host }) => listener.replay(touches, host.ipv4, played.source)))
    return played
  }

  /** What the next knock asks for, by whose key, and what is to be kept of it. */
  #next() {
    const number = this.played.length
    const which = number % this.#keys.length
    const key = this.#keys[which] as Key
    const request: Request = {
      ...{ action: 'open', protocol: 'tcp', once: false, port: DOOR, seconds: LEASE, address: AS_SEEN },
      salt: number & 0xffff,
    }
    const source = `${USERS}.${(Math.floor(number / this.#keys.length) % ADDRESSES) + 1}`
    const about = (v: Uint8Array) => ({
      name: knockName(this.#fingerprints[which] ?? '', bytesToHex(v)),
      source,
      at: performance.now(),
    })
    return { key, request, about }
  }

  /** Sends a knock to gateways, back to back. @param from whose address it comes from */
  #post(gateways: readonly Gateway[], { payload }: Played, from: (i: number) => string): Promise<void> {
    return this.#agent.ask(
      'post',
      gateways.map(({ host }, i) => ({ payload, from: from(i), to: host.ipv4, port: DATAGRAMS })),
    )
  }

  /** The listener plays datagrams again, each at all gateways, from the users' addresses or from their own. */
  async replay(knocks: readonly Played[]): Promise<void> {
    const { gateways } = this.#fleet
    for (const played of knocks) {
      this.again += gateways.length
      const from = this.#random() < 0.5 ? played.source : ownOf(played.source)
      await this.#post(shuffled(gateways, this.#random), played, () => from)
    }
  }

  /** Datagrams that are so many milliseconds old, the latest of them. */
  ofAge(least: number, most: number, count: number): Played[] {
    const now = performance.now()
    return this.played.filter(({ at, payload }) => payload && now - at >= least && now - at <= most).slice(-count)
  }

  /** Who has granted which knock, by all gateways' logs. */
  granted() {
    return grants(new Map(this.#fleet.gateways.map(({ name, lines }) => [name, lines])))
  }

  /** Users knock until a door opens to one, or so many milliseconds are over. */
  async untilOpen(timeoutMs: number): Promise<void> {
    const isOpen = async () => {
      const { name } = await this.knock()
      await sleep(SOON)
      return this.granted().has(name)
    }
    await until(isOpen, 'a door opens', timeoutMs)
  }

  /** Waits until nobody logs anything more. */
  async settled(): Promise<void> {
    const lines = () => this.#fleet.gateways.reduce((sum, gateway) => sum + gateway.lines.length, 0)
    const end = performance.now() + LONGEST
    for (let before = -1; before !== lines() && performance.now() < end; ) {
      before = lines()
      await sleep(QUIET)
    }
  }
}
