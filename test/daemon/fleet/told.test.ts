import { describe, expect, it } from 'vitest'
import { askHealth, type Health, healthFault, UNKNOWN } from '../../../src/daemon/fleet/health'
import { StandingLog } from '../../../src/daemon/fleet/told'
import { type Gateway, Gateways } from './gateways'
import { Twin } from './twin'

/** What a gateway's log says, as it looks every second. */
function listen(fleet: Gateways, gateway: Gateway) {
  const lines: string[] = []
  const to = (level: string) => (about: object | string, message?: string) => {
    const { reason } = typeof about === 'string' ? { reason: undefined } : (about as { reason?: string })
    lines.push(`${level}: ${message ?? about}${reason === undefined ? '' : `: ${reason}`}`)
  }
  const state: { health: Health } = { health: UNKNOWN }
  const log = { info: to('info'), warn: to('warn'), error: to('error') } as unknown as ConstructorParameters<
    typeof StandingLog
  >[2]
  const standing = new StandingLog(gateway.link, () => state.health, log, gateway.now)
  const pass = async (beats = 1) => {
    for (let i = 0; i < beats; i++) {
      await fleet.pass()
      standing.look(gateway.now)
      standing.look(gateway.now)
    }
  }
  return { lines, state, standing, pass }
}

const one = (off = 0) => {
  const fleet = new Gateways()
  const gateway = fleet.add('gw1', { off })
  return { fleet, gateway, ...listen(fleet, gateway) }
}

describe('the log of a gateway', () => {
  it('says once that it accepts no knocks, and once that it does again', async () => {
    const { gateway, lines, pass } = one()
    await pass(3)
    gateway.twin.trouble = 'no-quorum'
    await pass(12)
    gateway.twin.trouble = null
    await pass(4)
    expect(lines).toEqual([
      'info: this gateway accepts knocks',
      expect.stringMatching(/^error: this gateway accepts no knocks: the watch is \d+ s old: etcd: no-quorum$/),
      'info: this gateway accepts knocks',
    ])
  })

  it('says nothing of what every gateway begins with, but does where that does not end', async () => {
    const { gateway, lines, pass } = one()
    gateway.twin.trouble = 'unreachable'
    await pass(3)
    expect(lines).toEqual([])
    await pass(3)
    expect(lines).toEqual(['error: this gateway accepts no knocks: nothing has been heard of etcd yet: etcd: unreachable'])
  })

  it('says why where another reason comes, and keeps since when', async () => {
    const { fleet, gateway, lines, standing, pass } = one()
    await pass(3)
    gateway.twin.trouble = 'unreachable'
    await pass(7)
    const { since } = standing
    gateway.synchronised = null
    fleet.store.restore()
    gateway.twin.trouble = null
    await pass(2)
    expect(lines.at(-1)).toMatch(/^error: this gateway accepts no knocks: etcd was restored, or begun anew/)
    expect(standing.since).toBe(since)
  })

  it('says once that clocks differ, and once that they agree again', async () => {
    const { fleet, lines, pass } = one()
    const other = fleet.add('gw2', { off: 45_000 })
    await pass(5)
    other.off = 0
    await pass(3)
    expect(lines.filter((line) => line.includes('clocks'))).toEqual([
      expect.stringMatching(/^warn: the clocks of the fleet differ: the clocks differ: this one is 45\.0 s behind that of gw2/),
      'info: the clocks of the fleet agree again',
    ])
  })

  it('says once that etcd is half full, and once more when it complains', async () => {
    const { state, lines, pass } = one()
    await pass(2)
    state.health = { size: 50, quota: 100, alarms: [] }
    await pass(3)
    state.health = { size: 100, quota: 100, alarms: ['NOSPACE'] }
    await pass(3)
    expect(lines.slice(1)).toEqual([
      'warn: etcd needs room: etcd has used half of its quota',
      'warn: etcd needs room: etcd complains: NOSPACE',
    ])
  })
})

describe('how full etcd is', () => {
  it('is what the fullest of its members says, and no fault below a half', async () => {
    const twin = new Twin()
    const health = await askHealth(twin, UNKNOWN)
    expect(health).toEqual({ size: twin.store.size, quota: twin.store.quota, alarms: [] })
    expect(healthFault(health)).toBeNull()
    expect(healthFault({ ...health, size: 49, quota: 100 })).toBeNull()
    expect(healthFault({ ...health, size: 50, quota: 100 })).not.toBeNull()
  })

  it('stays what it was where no member answers', async () => {
    const twin = new Twin()
    twin.trouble = 'unreachable'
    const before = { size: 5, quota: 10, alarms: ['NOSPACE'] }
    expect(await askHealth(twin, before)).toEqual(before)
  })
})
