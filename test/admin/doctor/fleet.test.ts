import { describe, expect, it } from 'vitest'
import { judgeFleet, judgeRouting, readFleet } from '../../../src/admin/doctor/fleet'
import { lookAtStatus } from '../../../src/admin/fleet/status'
import { documentOf } from '../../../src/cli/admin/fleet-words'
import { placeOf } from '../fleet/place'
import { found, verdicts } from './found'

const report = (more: object = {}) => ({
  faults: [],
  gateways: ['gw1', 'gw2'].map((name) => ({ name, speaks: true, synchronised: true })),
  members: [{ size: 1, quota: 10 }],
  ...more,
})

describe('a fleet', () => {
  it('is ok where nothing is wrong', () => {
    expect(judgeFleet(report(), '')).toEqual([
      expect.objectContaining({
        verdict: 'ok',
        evidence: '2 gateways speak and have the same keys; 1 member of etcd answers, and uses 10 % of its quota',
      }),
    ])
  })

  it('is a fault by each thing that is wrong, with what to do', () => {
    const faults = [
      { message: 'a', hint: 'do b' },
      { message: 'c', hint: null },
    ]
    expect(judgeFleet(report({ faults }), '')).toEqual([
      ...found('fault', /^a$/, /^do b$/),
      ...found('fault', /^c$/, /fleet status/),
    ])
  })

  it('is noted where no clock is known to be kept', () => {
    const gateways = [false, null].map((synchronised) => ({ name: 'gw1', speaks: true, synchronised }))
    expect(judgeFleet(report({ gateways }), '')).toEqual(found('note', /no gateway knows its clock to be kept/, /timedatectl/))
  })

  it('is unknown where nothing was said, or nothing of the kind', () => {
    expect(readFleet('{}')).toBeNull()
    expect(readFleet('knockturn: error')).toBeNull()
    expect(judgeFleet(null, 'etcd cannot be asked')).toEqual(found('unknown', /failed: etcd cannot be asked/, /fleet status/))
  })

  it('is read from what fleet status prints', async () => {
    const place = await placeOf()
    const text = JSON.stringify(documentOf(await lookAtStatus(place), place, 0))
    expect(readFleet(text)).toMatchObject({ faults: [{ message: 'there is no fleet below "knockturn/"' }], gateways: [] })
  })
})

describe('the routing', () => {
  it.each([
    ['is ok by your word', true, [], ['ok']],
    ['is noted where nobody can see it', false, [], ['note']],
    ['is noted for ports, though datagrams need nothing', false, [443], ['note']],
  ])('%s', (_, pinned, ports, wanted) => {
    expect(verdicts(judgeRouting({ pinned }, ports))).toEqual(wanted)
  })

  it('names the ports of datagrams', () => {
    expect(judgeRouting({ pinned: false }, [443])).toEqual(found('note', /ports 443/, /--datagram/))
  })
})
