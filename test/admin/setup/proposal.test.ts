import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Listener } from '../../../src/admin/setup/listeners'
import { type Around, guardedPorts, propose, type Wish } from '../../../src/admin/setup/proposal'
import { guards } from '../../../src/daemon/guard'
import { DEFAULT_POOL, parsePool } from '../../../src/protocol/pool'
import { formatService, parseService } from '../../../src/protocol/service'

const listener = (name: string, more: Partial<Listener> = {}): Listener => {
  const service = parseService(name)
  if (!service) throw new Error(name)
  return { service, programs: ['some'], isSystems: true, publisher: null, ...more }
}
const SSHD = listener('22/tcp', { programs: ['sshd'] })
const around = (...listeners: Listener[]): Around => ({
  listeners,
  host: 'gate.example',
  user: 'alice',
  hasNftables: true,
})
const answersOf = (listeners: Listener[], wish: Wish = {}) => propose(around(...listeners), wish).answers

describe('a proposal', () => {
  it('guards everything, and the first key opens SSH', () => {
    expect(answersOf([SSHD])).toEqual({
      host: 'gate.example',
      key: 'alice',
      services: [{ port: 22, protocol: 'tcp' }],
      pool: DEFAULT_POOL,
      guard: 'all',
      public: [],
      backend: 'nftables',
    })
  })

  it('leaves open what is there for everyone, and each other way in', () => {
    const open = ['25/tcp', '53/udp', '80/tcp', '443/tcp', '443/udp', '1194/udp', '51820/udp']
    const shut = ['631/tcp', '3306/tcp', '5432/tcp', '8080/tcp'].map((name) => listener(name))
    expect(answersOf([SSHD, ...open.map((name) => listener(name)), ...shut]).public).toEqual(open)
  })

  it('knows a way in by its program, too, at any port', () => {
    expect(answersOf([SSHD, listener('9999/udp', { programs: ['tailscaled'] })]).public).toEqual(['9999/udp'])
  })

  it.each([listener('51820/udp', { isSystems: false }), listener('9999/udp', { programs: ['openvpn'], isSystems: false })])(
    'opens nothing to everyone for an ordinary user’s program: $service.port',
    (one) => {
      expect(answersOf([SSHD, one]).public).toEqual([])
    },
  )

  it('gives the first key no port of an ordinary user’s program that calls itself sshd', () => {
    const answers = answersOf([SSHD, listener('2222/tcp', { programs: ['sshd'], isSystems: false })])
    expect(answers.services.map(formatService)).toEqual(['22/tcp'])
  })

  it('finds SSH at any port, by systemd’s socket, and under other names', () => {
    const found = (...listeners: Listener[]) => answersOf(listeners).services.map(formatService)
    expect(found(listener('2222/tcp', { programs: ['sshd'] }))).toEqual(['2222/tcp'])
    expect(found(listener('22/tcp', { programs: ['systemd'] }))).toEqual(['22/tcp'])
    expect(found(listener('22022/tcp', { programs: ['dropbear'] }), SSHD)).toEqual(['22022/tcp', '22/tcp'])
  })

  it('lets the first key open what containers publish, but for what is public', () => {
    const web = listener('80/tcp', { publisher: 'docker' })
    const app = listener('8080/tcp', { publisher: 'docker' })
    expect(answersOf([SSHD, web, app]).services.map(formatService)).toEqual(['22/tcp', '8080/tcp'])
  })

  it('lets the first key open no more than a key may, SSH first, and says so', () => {
    const apps = Array.from({ length: 100 }, (_, i) => listener(`${8000 + i}/tcp`, { publisher: 'podman' }))
    const { answers, notes } = propose(around(...apps, SSHD), {})
    expect([answers.services.length, answers.services[0]]).toEqual([64, SSHD.service])
    expect(notes).toEqual(['a key opens at most 64 services: 37 others are left out'])
  })

  it('is none where no SSH listens, unless somebody says what the key is to open', () => {
    expect(() => answersOf([listener('80/tcp')])).toThrow('no SSH server listens here')
    expect(answersOf([], { services: [{ port: 22, protocol: 'tcp' }] }).services).toHaveLength(1)
  })

  it('is none where SSH is not guarded', () => {
    expect(() => answersOf([SSHD], { guard: ['8080/tcp'] })).toThrow('SSH is not among the guarded ports')
    expect(() => answersOf([SSHD], { public: ['22/tcp'] })).toThrow('SSH is not among the guarded ports')
  })

  it('is none where nobody knows what this host is called', () => {
    expect(() => propose({ ...around(SSHD), host: null }, {})).toThrow('no name or address of this host is known')
  })

  it('takes iptables where nft can’t be used', () => {
    expect(propose({ ...around(SSHD), hasNftables: false }, {}).answers.backend).toBe('iptables')
  })

  it('says so where a key opens what is not guarded', () => {
    const { notes } = propose(around(SSHD), { guard: ['22/tcp'], services: [{ port: 80, protocol: 'tcp' }] })
    expect(notes).toEqual(['80/tcp is not guarded: everyone reaches it, with or without a knock'])
  })
})

describe('the pool of the first key', () => {
  it('does without the port of a service that is to be reached, and says so', () => {
    const { answers, notes } = propose(around(SSHD, listener('51820/udp', { programs: [] })), {})
    expect(answers.pool).toBe('49152-51819,51821-65535')
    expect(notes).toEqual(['51820/udp (the kernel) lies where knocks come in: the key does without that port'])
  })

  it('takes the port of a service that is guarded anyway', () => {
    expect(answersOf([SSHD, listener('50000/tcp')]).pool).toBe(DEFAULT_POOL)
  })

  it('takes the port of a client’s socket where only a list is guarded, and says what that closes', () => {
    const { answers, notes } = propose(around(SSHD, listener('55555/udp', { programs: ['chronyd'] })), { guard: ['22/tcp'] })
    expect(answers.pool).toBe(DEFAULT_POOL)
    expect(notes).toEqual(['55555/udp (chronyd) lies where knocks come in, and will be closed'])
  })

  it('has no port of a service of TCP or of a known one that is not guarded, whatever listens', () => {
    const any = fc.array(
      fc.record({ port: fc.integer({ min: 1, max: 65535 }), protocol: fc.constantFrom('tcp' as const, 'udp' as const) }),
      { maxLength: 100 },
    )
    fc.assert(
      fc.property(any, fc.constantFrom<Wish['guard']>('all', ['22/tcp']), (services, guard) => {
        const listeners = services.map((service) => ({ ...SSHD, service, programs: ['some'] }))
        const { answers } = propose(around(SSHD, ...listeners), { guard })
        const ports = guardedPorts(answers.guard, answers.public)
        const pool = new Set(parsePool(answers.pool))
        for (const service of services)
          if (service.protocol === 'tcp' && !guards(ports, service)) expect(pool.has(service.port)).toBe(false)
      }),
    )
  })
})
