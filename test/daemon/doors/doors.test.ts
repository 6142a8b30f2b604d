import fc from 'fast-check'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { Doors } from '../../../src/daemon/doors/doors'
import type { Outcome } from '../../../src/daemon/doors/waiting'
import { type Batch, type Entry, isLease, type Lease, nameOf, Refused, type Table } from '../../../src/gate/firewall'
import { Leases } from '../../../src/gate/leases'
import type { Grant } from '../../../src/gate/policy'
import type { Service } from '../../../src/protocol/service'

/* The worker that brings the firewall to what is wanted, on a model of the kernel whose changes take as long and end as the test says. */

/** Unix milliseconds. */
const NOW = 1_770_000_000_000
const SERVICES: Service[] = [22, 443, 80].map((port) => ({ port, protocol: 'tcp' }))
const HOME = '198.51.100.2'
const POISON = 'poison'
const DESCRIBED: Record<string, string> = { lost: 'the connection to the kernel is lost', refused: 'a rule is refused' }

/** How a call of the firewall ends: as it should, or one of three ways to fail. */
type Ending = 'done' | 'refused' | 'made, and nobody knows' | 'not made, and nobody knows'

interface Call {
  readonly what: 'read' | 'change' | 'rewrite' | 'hold'
  /** The moment at which it was composed. */
  readonly composed: number
  /** Whether its daemon has been killed since: it may be made all the same, and nobody hears of it. */
  isOrphan?: boolean
  readonly end: (how: Ending) => void
}

/** The kernel's rules, and the calls that are under way. A rule may stand twice. */
class Kernel implements Table {
  readonly maxRemoved = 16
  readonly clock = 'wall'
  readonly name = 'kernel'
  rules: Entry[] = []
  isWhole = true
  calls: Call[] = []
  /** What has been asked of it, in order. */
  asked: Call['what'][] = []
  /** Counts what happens, so that what was composed before and after an end can be told apart. */
  moment = 0
  /** Told of each change that was made, with what stood before it. */
  made: (call: Call, before: readonly Entry[]) => void = () => {}

  holds = () => true
  endsByItself = (entry: Entry) => entry.until !== null

  read() {
    return this.#call('read', () => ({ entries: [...this.rules], isWhole: this.isWhole }))
  }

  hold() {
    return this.#call('hold', () => {
      const { isWhole } = this
      this.isWhole = true
      return !isWhole
    })
  }

  change({ add, remove }: Batch) {
    return this.#call('change', () => {
      const left = [...this.rules]
      for (const { entry } of remove) {
        const at = left.findIndex((rule) => nameOf(rule) === nameOf(entry))
        if (at < 0) throw new Refused('there is no such rule')
        left.splice(at, 1)
      }
      this.#check(add)
      if (!this.isWhole && add.length > 0) throw new Refused('there is no such chain')
      this.rules = [...left, ...add]
    })
  }

  rewrite(entries: readonly Entry[]) {
    return this.#call('rewrite', () => {
      const names = new Set(this.rules.map(nameOf))
      this.#check(entries.filter((entry) => !names.has(nameOf(entry))))
      this.rules = [...entries]
      this.isWhole = true
    })
  }

  #check(added: readonly Entry[]): void {
    if (added.some(({ fingerprint }) => fingerprint === POISON)) throw new Refused(DESCRIBED.refused)
  }

  #call<T>(what: Call['what'], act: () => T): Promise<T> {
    const composed = ++this.moment
    this.asked.push(what)
    return new Promise((resolve, reject) => {
      const call: Call = {
        what,
        composed,
        end: (how) => {
          this.moment++
          const fail = (error: unknown) => call.isOrphan || reject(error)
          if (how === 'refused') return fail(new Refused(DESCRIBED.refused))
          if (how === 'not made, and nobody knows') return fail(new Error(DESCRIBED.lost))
          const before = this.rules
          let result: T
          try {
            result = act()
          } catch (error) {
            return fail(error)
          }
          if (what === 'change' || what === 'rewrite') this.made(call, before)
          if (how !== 'done') fail(new Error(DESCRIBED.lost))
          else if (!call.isOrphan) resolve(result)
        },
      }
      this.calls.push(call)
    })
  }
}

/** What is awaited has been dealt with. */
const settled = () => new Promise(setImmediate)

/** A daemon's part in it: leases, the worker, and their log; the kernel outlives it. */
class Stage {
  readonly kernel = new Kernel()
  leases = new Leases()
  doors: Doors
  steady = 1_000_000
  lines: Record<string, unknown>[] = []
  #made = 0
  /** Leases of this daemon that were said to be in force. */
  accepted = new Set<string>()
  readonly alive = new Set(['alice', 'bob', POISON])
  /** What a change has done that it must not. */
  readonly wrong: string[] = []

  constructor() {
    this.doors = this.#start()
  }

  get now() {
    return { wall: NOW + this.steady - 1_000_000, steady: this.steady }
  }

  #start(): Doors {
    const { leases, lines } = this
    const log = pino({ base: null, level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) })
    return new Doors({ leases, firewall: [this.kernel], log, now: () => this.now })
  }

  grant(seconds: number | null, { services = SERVICES.slice(0, 1), once = false, address = HOME } = {}): Grant {
    const until = seconds === null ? null : Math.ceil(this.now.wall / 1000) + seconds
    return { action: 'open', address, services, once, until }
  }

  /** Opens, and gives what becomes of it. */
  open(key: string, grant: Grant): { leases: Lease[]; outcome: Promise<Outcome[]> } {
    const leases = this.leases.open(`${++this.#made}`, key, key, grant, this.now) ?? []
    this.doors.follow()
    const { accepted } = this
    const opened = async (lease: Lease) => {
      const outcome = await this.doors.opened(lease)
      if (outcome === 'in force') accepted.add(lease.id)
      return outcome
    }
    return { leases, outcome: Promise.all(leases.map(opened)) }
  }

  /** What becomes of the end of one lease. */
  async shut(lease: Lease): Promise<Outcome> {
    return (await this.doors.shut([lease]))[0]
  }

  close(key: string, services: readonly Service[] = [], address = HOME): Lease[] {
    const ended = this.leases.close(key, address, services)
    this.doors.follow()
    return ended
  }

  tick(milliseconds: number): void {
    this.steady += milliseconds
    this.leases.expire(
      (key) => this.alive.has(key),
      () => false,
      this.now,
    )
    this.doors.follow()
  }

  /** Ends the calls that are under way, and those that follow, all in one way. */
  async run(how: Ending = 'done', what?: Call['what']): Promise<void> {
    for (await settled(); this.kernel.calls.length > 0; await settled()) {
      const [call] = this.kernel.calls.splice(0, 1) as [Call]
      call.end(what && call.what !== what ? 'done' : how)
    }
  }

  /** Time passes with a firewall that works, as long as the worker may leave something undone. */
  async rest(): Promise<void> {
    // Longer than any pause between two looks.
    for (let i = 0; i < 70; i++) {
      this.tick(1_000)
      await this.run()
    }
  }

  /** The daemon is killed and started again; calls that are under way may still be made, at any time. */
  async restart(): Promise<void> {
    this.leases = new Leases()
    this.lines = []
    this.accepted = new Set()
    this.doors = this.#start()
    const adopting = this.doors.adopt()
    await this.run()
    this.leases.restore((await adopting).entries, (key) => this.alive.has(key), this.now)
    this.doors.follow()
  }

  get ports(): number[] {
    return this.kernel.rules.filter(isLease).map(({ port }) => port)
  }

  /** What the log has said, without what it is about. */
  said(): unknown[] {
    return this.lines.map(({ msg }) => msg)
  }
}

describe('a door', () => {
  it('that is opened is in force when the change is made, and not before', async () => {
    const stage = new Stage()
    let said: Outcome[] = []
    const { outcome } = stage.open('alice', stage.grant(60))
    outcome.then((all) => {
      said = all
    })
    await settled()
    expect([said, stage.ports]).toEqual([[], []])
    await stage.run()
    expect([said, stage.ports]).toEqual([['in force'], [22]])
  })

  it('that is closed before its change is composed is never there, and has ended', async () => {
    const stage = new Stage()
    // The first is under way, so that the second has to wait for the next change.
    stage.open('bob', stage.grant(60))
    await settled()
    const { outcome } = stage.open('alice', stage.grant(null, { services: SERVICES }))
    stage.close('alice', SERVICES.slice(1, 2))
    await stage.run()
    expect([await outcome, stage.ports]).toEqual([
      ['in force', 'ended', 'in force'],
      [22, 22, 80],
    ])
    expect(stage.said()).toEqual([])
  })

  it('that is closed while its change is under way is taken away by the next one', async () => {
    const stage = new Stage()
    const { outcome } = stage.open('alice', stage.grant(null, { services: SERVICES }))
    await settled()
    stage.close('alice', SERVICES.slice(1, 2))
    await stage.run()
    expect([await outcome, stage.ports, stage.said()]).toEqual([['in force', 'in force', 'in force'], [22, 80], ['closed']])
  })

  it('of a key that is revoked between two of its services is taken away with all of them', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null, { services: SERVICES.slice(0, 1) }))
    stage.open('alice', stage.grant(null, { services: SERVICES.slice(1) }))
    stage.alive.delete('alice')
    stage.tick(0)
    await stage.run()
    expect([stage.ports, stage.leases.size]).toEqual([[], 0])
  })

  it('that is made longer stays open in between, by one change', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const { outcome } = stage.open('alice', stage.grant(600))
    await settled()
    expect(stage.kernel.calls.map(({ what }) => what)).toEqual(['change'])
    await stage.run()
    expect([await outcome, stage.kernel.rules]).toEqual([['in force'], stage.leases.all()])
  })

  it('that could not be made longer is as it was, and both are told so', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const [before] = stage.kernel.rules
    const { outcome } = stage.open('alice', stage.grant(600))
    await stage.run('not made, and nobody knows', 'change')
    expect([await outcome, stage.kernel.rules, stage.leases.all()]).toEqual([[{ failed: DESCRIBED.lost }], [before], [before]])
  })

  it('that was made longer, and nobody knew, is as it was as soon as that is seen', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const [before] = stage.kernel.rules
    const { outcome } = stage.open('alice', stage.grant(600))
    await settled()
    stage.kernel.calls.splice(0)[0]?.end('made, and nobody knows')
    await settled()
    stage.kernel.calls.splice(0)[0]?.end('not made, and nobody knows')
    expect(await outcome).toEqual([{ failed: DESCRIBED.lost }])
    stage.tick(1_000)
    await stage.run()
    expect(stage.kernel.rules).toEqual([before])
  })

  it('that fails once and is asked for again meanwhile opens, and only the first is told of a failure', async () => {
    const stage = new Stage()
    const first = stage.open('alice', stage.grant(60))
    await settled()
    const other = stage.open('bob', stage.grant(60))
    const [call] = stage.kernel.calls.splice(0) as [Call]
    call.end('not made, and nobody knows')
    await stage.run()
    expect([await first.outcome, await other.outcome]).toEqual([[{ failed: DESCRIBED.lost }], ['in force']])
    expect(stage.kernel.rules.map(({ key }) => key)).toEqual(['bob'])
  })

  it('that is closed while it could not be made longer is shut', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const { outcome } = stage.open('alice', stage.grant(600))
    await settled()
    const [closed] = stage.close('alice')
    const [call] = stage.kernel.calls.splice(0) as [Call]
    call.end('not made, and nobody knows')
    await stage.rest()
    expect([await outcome, await stage.shut(closed as Lease), stage.ports]).toEqual([['ended'], 'ended', []])
    expect(stage.said().filter((msg) => msg === 'closed')).toHaveLength(1)
  })

  it('of which nobody knows whether it is there is looked for, and is open if it is', async () => {
    const stage = new Stage()
    const { outcome } = stage.open('alice', stage.grant(60))
    await stage.run('made, and nobody knows', 'change')
    expect([await outcome, stage.ports]).toEqual([['in force'], [22]])
  })

  it('is not opened where the firewall cannot be read after a failure', async () => {
    const stage = new Stage()
    const first = stage.open('alice', stage.grant(60))
    await stage.run('not made, and nobody knows')
    const second = stage.open('alice', stage.grant(60))
    await stage.run('not made, and nobody knows')
    expect([await first.outcome, await second.outcome, stage.leases.size]).toEqual([
      [{ failed: DESCRIBED.lost }],
      [{ failed: DESCRIBED.lost }],
      0,
    ])
    // Nothing is changed on a guess.
    expect(stage.kernel.asked).toEqual(['change', 'read', 'read'])
    const third = stage.open('alice', stage.grant(60))
    await stage.run()
    expect([await third.outcome, stage.ports]).toEqual([['in force'], [22]])
  })

  it('that was given up, and is there all the same, is taken away as soon as that is seen, and nobody else is blamed', async () => {
    const stage = new Stage()
    const { outcome } = stage.open('alice', stage.grant(60))
    await settled()
    stage.kernel.calls.splice(0)[0]?.end('made, and nobody knows')
    await settled()
    stage.kernel.calls.splice(0)[0]?.end('not made, and nobody knows')
    expect(await outcome).toEqual([{ failed: DESCRIBED.lost }])
    expect(stage.ports).toEqual([22])
    stage.tick(1_000)
    await stage.run()
    expect([stage.ports, stage.said()]).toEqual([[], ['cannot check the firewall rules']])
  })

  it('that is closed while the firewall cannot be read does not wait for that to be over', async () => {
    const stage = new Stage()
    stage.open('bob', stage.grant(60))
    await stage.run('not made, and nobody knows')
    const { outcome } = stage.open('alice', stage.grant(60))
    stage.close('alice')
    await stage.run('not made, and nobody knows')
    stage.tick(1_000)
    await stage.run('not made, and nobody knows')
    const said = await Promise.race([outcome, settled().then(() => 'it waits')])
    expect(said).toEqual([{ failed: DESCRIBED.lost }])
  })

  it('that could not be shut is shut a second later, and nobody else is blamed', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const [ended] = stage.close('alice')
    const shut = stage.shut(ended as Lease)
    await stage.run('not made, and nobody knows', 'change')
    expect([await shut, stage.ports]).toEqual([{ failed: DESCRIBED.lost }, [22]])
    stage.tick(1_000)
    await stage.run()
    expect([stage.ports, stage.said()]).toEqual([[], ['closed']])
  })

  it('that could not be shut goes with the next change, and be it one that sweeps', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    stage.open('bob', stage.grant(1))
    await stage.run()
    stage.steady += 500
    stage.close('alice')
    await stage.run('not made, and nobody knows', 'change')
    stage.kernel.asked = []
    stage.tick(500)
    await stage.run()
    expect([stage.kernel.asked, stage.kernel.rules]).toEqual([['change'], []])
  })

  it('that is open stays open where the firewall cannot be read', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    for (let i = 0; i < 10; i++) {
      stage.tick(5_000)
      await stage.run('not made, and nobody knows')
    }
    expect(stage.ports).toEqual([22])
    expect(stage.said().filter((msg) => msg === 'cannot check the firewall rules')).toHaveLength(1)
  })

  it('that has ended by the clock waits while others are opened, and is told of when it is swept up', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(1))
    await stage.run()
    stage.steady += 1_500
    stage.leases.expire(
      () => true,
      () => false,
      stage.now,
    )
    const second = stage.open('bob', stage.grant(60))
    await settled()
    const [call] = stage.kernel.calls.splice(0) as [Call]
    call.end('done')
    expect([await second.outcome, stage.kernel.rules.length, stage.said()]).toEqual([['in force'], 2, []])
    await stage.run()
    expect([stage.kernel.rules.length, stage.said()]).toEqual([1, ['expired']])
  })

  it('that has ended by the clock is swept up after ten seconds, however many are opened', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(1))
    await stage.run()
    for (let i = 0; i < 24 && !stage.said().includes('expired'); i++) {
      stage.tick(500)
      stage.open('bob', stage.grant(60, { address: `10.0.0.${i}` }))
      await settled()
      // Another one always waits.
      for (const call of stage.kernel.calls.splice(0)) call.end('done')
      stage.open('bob', stage.grant(60, { address: `10.0.1.${i}` }))
      await settled()
    }
    expect(stage.said()).toContain('expired')
  })

  it.each([
    [16, 'change'],
    [17, 'rewrite'],
  ])('that is closed with others, %i in all, is taken away by a %s', async (count, what) => {
    const stage = new Stage()
    const services = Array.from({ length: count }, (_, i): Service => ({ port: 1_000 + i, protocol: 'tcp' }))
    stage.open('alice', stage.grant(60, { services }))
    stage.open('bob', stage.grant(60))
    await stage.run()
    const ways: string[] = []
    stage.close('alice')
    for (await settled(); stage.kernel.calls.length > 0; await settled()) {
      const [call] = stage.kernel.calls.splice(0, 1) as [Call]
      if (call.what !== 'read') ways.push(call.what)
      call.end('done')
    }
    expect([ways, stage.ports, stage.said().length]).toEqual([[what], [22], count])
  })

  it('for one connection whose rule is gone has ended, and is never put back', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60, { once: true }))
    await stage.run()
    stage.kernel.rules = []
    await stage.rest()
    expect([stage.ports, stage.leases.size, stage.said()]).toEqual([[], 0, ['closed']])
  })

  it('for one connection whose rule is gone before the others are written anew is not put back with them', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    stage.open('bob', stage.grant(600, { once: true }))
    await stage.run()
    const [, once] = stage.kernel.rules
    stage.kernel.rules = [once as Lease]
    stage.tick(5_000)
    await stage.run('refused', 'rewrite')
    stage.kernel.rules = []
    stage.tick(1_000)
    await stage.run()
    expect(stage.kernel.rules.map(({ key }) => key)).toEqual(['alice'])
  })

  it('for one connection that another knock puts a new one in the place of is not said to have ended', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600, { once: true }))
    await stage.run()
    stage.open('alice', stage.grant(600, { once: true }))
    await stage.run()
    expect([stage.kernel.rules, stage.said()]).toEqual([stage.leases.all(), []])
  })

  it('for one connection of which nobody knows is not opened a second time', async () => {
    const stage = new Stage()
    const { outcome } = stage.open('alice', stage.grant(60, { once: true }))
    await stage.run('not made, and nobody knows', 'change')
    await stage.rest()
    expect([await outcome, stage.ports]).toEqual([[{ failed: DESCRIBED.lost }], []])
  })
})

describe('a rule that the firewall refuses', () => {
  it('fails its own key, and holds up nobody else and no end', async () => {
    const stage = new Stage()
    stage.open('bob', stage.grant(60, { address: '10.0.0.9' }))
    await stage.run()
    stage.open('alice', stage.grant(60, { address: '10.0.0.1' }))
    const bad = stage.open(POISON, stage.grant(60))
    const good = stage.open('bob', stage.grant(60))
    const [ended] = stage.close('bob', [], '10.0.0.9')
    await stage.run()
    expect([await bad.outcome, await good.outcome, await stage.shut(ended as Lease)]).toEqual([
      [{ failed: DESCRIBED.refused }],
      ['in force'],
      'ended',
    ])
    expect(stage.kernel.rules.map(({ key }) => key)).toEqual(['alice', 'bob'])
  })

  it('holds up no end where nobody else waits', async () => {
    const stage = new Stage()
    stage.open('bob', stage.grant(60))
    await stage.run()
    stage.open(POISON, stage.grant(60))
    const [ended] = stage.close('bob')
    const shut = stage.shut(ended as Lease)
    await stage.run()
    expect([await shut, stage.ports]).toEqual(['ended', []])
  })

  it('has another key’s door stay open while that is made longer', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(60))
    await stage.run()
    const open: number[] = []
    stage.kernel.made = () => open.push(stage.ports.length)
    stage.open(POISON, stage.grant(60, { services: SERVICES.slice(1) }))
    const { outcome } = stage.open('alice', stage.grant(600))
    await stage.run()
    expect([await outcome, open]).toEqual([['in force'], [1]])
  })

  it('has the table read before anything else where a change beside it was made, and nobody knew', async () => {
    const stage = new Stage()
    const good = stage.open('alice', stage.grant(60))
    stage.open(POISON, stage.grant(60))
    await settled()
    // The change, a look, all anew; then key by key.
    for (const how of ['done', 'done', 'done', 'made, and nobody knows'] as const) {
      stage.kernel.calls.splice(0)[0]?.end(how)
      await settled()
    }
    await stage.run()
    expect([await good.outcome, stage.ports]).toEqual([[{ failed: DESCRIBED.lost }], []])
  })

  it('leaves a lock as it was where it is to make that longer', async () => {
    const stage = new Stage()
    const lock = (seconds: number) => ({
      id: 'z',
      key: 'alice',
      fingerprint: 'alice',
      address: HOME,
      until: NOW / 1000 + seconds,
    })
    stage.leases.lock(lock(60), stage.now)
    stage.doors.follow()
    await stage.run()
    stage.leases.lock(lock(600), stage.now)
    stage.doors.follow()
    await settled()
    stage.kernel.calls.splice(0)[0]?.end('not made, and nobody knows')
    await stage.run()
    expect(stage.kernel.rules).toEqual([lock(60)])
  })

  it('has the next knock of its key tried again', async () => {
    const stage = new Stage()
    await Promise.all([stage.open(POISON, stage.grant(60)).outcome, stage.run()])
    expect(stage.leases.size).toBe(0)
  })
})

describe('what another program', () => {
  it('has flushed is put back in one step, and told of once', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null, { services: SERVICES }))
    await stage.run()
    stage.kernel.rules = []
    stage.kernel.isWhole = false
    await stage.rest()
    expect(stage.ports).toEqual([22, 443, 80])
    expect(stage.lines).toMatchObject([{ level: 40, msg: 'another program changed the firewall: our rules have been restored' }])
  })

  it('is said to have flushed is put back in that moment: first what makes rules work, and then what was read back', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null))
    await stage.run()
    stage.kernel.rules = []
    stage.kernel.isWhole = false
    stage.kernel.asked = []
    stage.doors.alarm()
    await stage.run()
    expect([stage.ports, stage.kernel.asked]).toEqual([[22], ['hold', 'read', 'rewrite']])
    expect(stage.said()).toEqual(['another program changed the firewall: our rules have been restored'])
  })

  it('is said to have flushed while the rules are being read does not wait for that', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null))
    await stage.run()
    stage.tick(5_000)
    await settled()
    stage.kernel.rules = []
    stage.kernel.isWhole = false
    stage.doors.alarm()
    await settled()
    expect(stage.kernel.calls.map(({ what }) => what)).toEqual(['read', 'hold'])
    stage.kernel.calls.pop()?.end('done')
    expect(stage.kernel.isWhole).toBe(true)
    await stage.run()
    expect([stage.ports, stage.said()]).toEqual([[22], ['another program changed the firewall: our rules have been restored']])
  })

  it('has not changed is left as it is, and nobody is told', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null))
    await stage.run()
    stage.kernel.asked = []
    stage.doors.alarm()
    await stage.run()
    expect([stage.kernel.asked, stage.said()]).toEqual([['hold', 'read'], []])
  })

  it('has flushed again and again is told of once a minute', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(null))
    await stage.run()
    for (let i = 0; i < 3; i++) {
      stage.kernel.rules = []
      stage.tick(5_000)
      await stage.run()
    }
    expect([stage.ports, stage.said()]).toEqual([[22], ['another program changed the firewall: our rules have been restored']])
  })

  it('has put back, such as a lease that has been closed since, is taken away', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    const saved = [...stage.kernel.rules]
    stage.close('alice')
    await stage.run()
    stage.kernel.rules = saved
    await stage.rest()
    expect(stage.ports).toEqual([])
  })

  it('has doubled is there once', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    stage.kernel.rules.push(...stage.kernel.rules)
    await stage.rest()
    expect(stage.ports).toEqual([22])
  })

  it('has taken away before it was closed is closed, and told of as such', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    stage.kernel.rules = []
    const [ended] = stage.close('alice')
    await stage.run()
    expect([await stage.shut(ended as Lease), stage.said()]).toEqual(['ended', ['closed']])
  })

  it('has taken away before it was closed has all that is wanted written anew in one step, however many wait', async () => {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    stage.kernel.rules = []
    stage.kernel.asked = []
    stage.close('alice')
    stage.open('alice', stage.grant(600, { services: SERVICES.slice(1) }))
    stage.open('bob', stage.grant(600))
    await stage.run()
    expect([stage.kernel.asked, stage.ports]).toEqual([
      ['change', 'read', 'rewrite'],
      [443, 80, 22],
    ])
  })
})

it('a fault of the program is told, and the firewall is read before anything else is changed', async () => {
  const stage = new Stage()
  stage.open('alice', stage.grant(1))
  await stage.run()
  const { endsByItself } = stage.kernel
  stage.kernel.endsByItself = () => {
    throw new Error('a fault')
  }
  stage.tick(2_000)
  await stage.run()
  stage.kernel.endsByItself = endsByItself
  stage.kernel.asked = []
  stage.tick(1_000)
  await stage.run()
  expect([stage.kernel.asked, stage.ports, stage.said()]).toEqual([
    ['read', 'change'],
    [],
    ['internal error, please report', 'expired'],
  ])
})

describe('a daemon that is started', () => {
  /** Rules of an earlier run, and what is said of them. */
  async function found(change: (kernel: Kernel) => void = () => {}) {
    const stage = new Stage()
    stage.open('alice', stage.grant(600))
    await stage.run()
    change(stage.kernel)
    await stage.restart()
    return stage
  }

  it('tells of the end of a lease that it has found', async () => {
    const stage = await found()
    stage.close('alice')
    await stage.run()
    expect([stage.ports, stage.said()]).toEqual([[], ['closed']])
  })

  it('has a rule that it has found twice stand there once', async () => {
    const stage = await found((kernel) => kernel.rules.push(...kernel.rules))
    await stage.run()
    expect(stage.ports).toEqual([22])
  })

  it('puts chains in force that it has not found so, and says it', async () => {
    const stage = await found((kernel) => {
      kernel.isWhole = false
    })
    await stage.run()
    expect([stage.kernel.isWhole, stage.ports, stage.said()]).toEqual([
      true,
      [22],
      ['kernel: our chains were missing and have been restored'],
    ])
  })

  it('takes a firewall that it cannot read for no empty one', async () => {
    const stage = new Stage()
    const adopting = stage.doors.adopt()
    stage.kernel.calls.splice(0)[0]?.end('not made, and nobody knows')
    await expect(adopting).rejects.toThrow(DESCRIBED.lost)
  })
})

describe('a lock', () => {
  it('that could not be put there stays wanted, and is put there later', async () => {
    const stage = new Stage()
    const lock = { id: 'z', key: 'alice', fingerprint: 'alice', address: HOME, until: NOW / 1000 + 600 }
    stage.leases.lock(lock, stage.now)
    stage.doors.follow()
    const outcome = stage.doors.opened(lock)
    await stage.run('not made, and nobody knows', 'change')
    expect([await outcome, stage.leases.locked(HOME)]).toEqual([{ failed: DESCRIBED.lost }, lock])
    await stage.rest()
    expect([stage.kernel.rules, stage.said()]).toEqual([[lock], ['cannot change the firewall rules']])
  })
})

/* Whatever happens, in whatever order. */

type Act =
  | { do: 'open'; key: string; seconds: number | null; services: number; once: boolean; address: string }
  | { do: 'close'; key: string; services: number; address: string }
  | { do: 'lock'; key: string; seconds: number; address: string }
  | { do: 'revoke' | 'grant'; key: string }
  | { do: 'time'; seconds: number }
  | { do: 'end'; how: Ending }
  | { do: 'flush' | 'alarm' | 'restart' | 'double' | 'save' | 'restore'; part: number }

const key = fc.constantFrom('alice', 'bob', POISON)
const address = fc.constantFrom(HOME, '198.51.100.3')
const services = fc.integer({ min: 1, max: 7 })
const acts: fc.Arbitrary<Act[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('open' as const),
        key,
        seconds: fc.option(fc.integer({ min: 1, max: 30 })),
        services,
        once: fc.boolean(),
        address,
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('close' as const), key, services: fc.integer({ min: 0, max: 7 }), address }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('lock' as const), key, seconds: fc.integer({ min: 1, max: 30 }), address }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'grant' as const), key }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('time' as const), seconds: fc.integer({ min: 0, max: 12 }) }) },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('end' as const),
        how: fc.constantFrom<Ending>('done', 'done', 'done', 'refused', 'made, and nobody knows', 'not made, and nobody knows'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constantFrom(...(['flush', 'alarm', 'restart', 'double', 'save', 'restore'] as const)),
        part: fc.nat(3),
      }),
    },
  ),
  { minLength: 20, maxLength: 80 },
)

/** The services that a number stands for, a bit each. */
const some = (bits: number) => SERVICES.filter((_, i) => bits & (1 << i))

/**
 * Plays what happens, and watches that no door is left open by a change that was composed after its end, and that none is shut by a change while
 * it is wanted.
 */
async function play(all: readonly Act[]): Promise<Stage> {
  const stage = new Stage()
  const { kernel } = stage
  let saved: Entry[] = []
  /** Of each door, whether it should be open, and since when. */
  const doors = new Map<string, { isWanted: boolean; since: number }>()
  /** When a rule was put there by a change of ours. */
  const put = new Map<string, number>()
  /** Doors that another program has opened, or a daemon that has been killed. */
  const others = new Set<string>()
  const note = () => {
    const wanted = new Set(stage.leases.all().map(doorOf))
    const there = new Set(kernel.rules.map(doorOf))
    for (const door of others) if (!there.has(door)) others.delete(door)
    for (const door of new Set([...wanted, ...there, ...doors.keys()])) {
      const isWanted = wanted.has(door)
      if (doors.get(door)?.isWanted !== isWanted) doors.set(door, { isWanted, since: ++kernel.moment })
    }
  }
  kernel.made = ({ composed, isOrphan }, before) => {
    note()
    if (isOrphan) {
      for (const rule of kernel.rules) others.add(doorOf(rule))
      return
    }
    const isDue = (door: string, isWanted: boolean) => {
      const is = doors.get(door)
      return is?.isWanted === isWanted && is.since < composed
    }
    const isOver = ({ until }: Entry) => until !== null && until * 1000 <= stage.now.wall
    for (const rule of kernel.rules) {
      if (isDue(doorOf(rule), false) && !others.has(doorOf(rule)) && !isOver(rule))
        stage.wrong.push(`${nameOf(rule)} stands after a change that was composed after its end`)
    }
    const there = new Set(kernel.rules.map(doorOf))
    for (const rule of before) {
      // One that was closed, and is wanted again, may be shut in between.
      const isKept =
        !isOver(rule) && isDue(doorOf(rule), true) && (doors.get(doorOf(rule))?.since ?? 0) < (put.get(nameOf(rule)) ?? 0)
      if (isKept && !there.has(doorOf(rule)))
        stage.wrong.push(`${nameOf(rule)} is taken away by a change while its door is wanted`)
    }
    for (const rule of kernel.rules) if (!before.includes(rule)) put.set(nameOf(rule), composed)
  }
  for (const [n, act] of all.entries()) {
    switch (act.do) {
      case 'open':
        stage.open(act.key, stage.grant(act.seconds, { ...act, services: some(act.services) }))
        break
      case 'close':
        stage.close(act.key, some(act.services), act.address)
        break
      case 'lock': {
        const until = Math.ceil(stage.now.wall / 1000) + act.seconds
        const { key, address } = act
        stage.leases.lock({ id: `lock ${address} ${until}`, key, fingerprint: key, address, until }, stage.now)
        stage.leases.close(key, address, [])
        stage.doors.follow()
        break
      }
      case 'revoke':
        stage.alive.delete(act.key)
        stage.tick(0)
        break
      case 'grant':
        stage.alive.add(act.key)
        break
      case 'time':
        stage.tick(act.seconds * 1000)
        break
      case 'end':
        kernel.calls.splice(0, 1)[0]?.end(act.how)
        break
      case 'flush':
        kernel.rules = kernel.rules.filter((_, i) => i % 4 < act.part)
        kernel.isWhole = act.part > 0
        break
      case 'alarm':
        stage.doors.alarm()
        break
      case 'double':
        for (const rule of kernel.rules.slice(0, act.part)) others.add(doorOf(rule))
        kernel.rules = [...kernel.rules, ...kernel.rules.slice(0, act.part)]
        break
      case 'save':
        saved = kernel.rules
        break
      case 'restore':
        kernel.rules = saved
        for (const rule of saved) others.add(doorOf(rule))
        break
      case 'restart': {
        // Some of what was under way is made later, some never.
        await settled()
        const late = kernel.calls.splice(0)
        for (const call of late) call.isOrphan = true
        await stage.restart()
        kernel.calls.push(...late.slice(0, act.part))
        break
      }
    }
    note()
    // What is opened and closed in the same step is composed together, now and then.
    if (n % 3 || (act.do !== 'open' && act.do !== 'close')) await settled()
    note()
  }
  await stage.rest()
  return stage
}

const doorOf = (entry: Entry) =>
  isLease(entry)
    ? `${entry.fingerprint} ${entry.address} ${entry.port} ${entry.once}`
    : `lock ${entry.fingerprint} ${entry.address}`

describe('whatever happens, and in whatever order', () => {
  it('the rules are just the wanted ones in the end, and none outlives a change that was composed after its end', async () => {
    await fc.assert(
      fc.asyncProperty(acts, async (all) => {
        const stage = await play(all)
        expect(stage.wrong).toEqual([])
        const names = (entries: readonly Entry[]) => entries.map(nameOf).sort()
        expect(names(stage.kernel.rules)).toEqual(names(stage.leases.all()))
        expect(stage.kernel.isWhole).toBe(true)
      }),
      { numRuns: 400 },
    )
  })

  it('each lease that was said to be in force is said to have ended just once, unless another one took its place', async () => {
    await fc.assert(
      fc.asyncProperty(acts, async (all) => {
        const stage = await play(all.map((act) => (act.do === 'open' ? { ...act, once: false } : act)))
        stage.alive.clear()
        await stage.rest()
        const ends = stage.lines.filter(({ msg }) => msg === 'closed' || msg === 'expired').map(({ lease }) => lease)
        expect(new Set(ends).size).toBe(ends.length)
        expect([...stage.accepted].filter((id) => !ends.includes(id))).toEqual([])
        expect(stage.kernel.rules).toEqual([])
      }),
      { numRuns: 400 },
    )
  })
})
