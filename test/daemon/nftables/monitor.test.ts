import { describe, expect, it } from 'vitest'
import { eventOf, FILTER } from '../../../src/daemon/iptables/follow'
import { type Followed, monitorReader, OURS, OwnChanges } from '../../../src/daemon/nftables/monitor'

/** What `nft monitor` prints of one transaction. */
const transaction = (...lines: string[]) => [...lines, '# new generation 13 by process 10446 (nft)']

/** Reads lines. @returns how many alarms they raise */
function alarms(lines: readonly string[], tables: readonly Followed[] = [{ event: OURS, own: new OwnChanges() }]): number {
  let count = 0
  const read = monitorReader(tables, () => count++)
  for (const line of lines) read(line)
  return count
}

describe('an alarm for our own table', () => {
  it.each([
    ['flush ruleset', ['delete set inet knockturn open4_32', 'delete chain inet knockturn gate', 'delete table inet knockturn']],
    ['delete rule', ['delete rule inet knockturn gate handle 5']],
    ['insert rule', ['insert rule inet knockturn gate counter packets 0 bytes 0 accept']],
    ['flush set', ['delete element inet knockturn open4_32 { 1.2.3.4 . tcp . 22 counter packets 0 bytes 0 timeout 1h }']],
    ['a dormant table', ['add table inet knockturn { flags dormant; }']],
    ['one change among another table’s', ['add table inet x', 'delete rule inet knockturn gate handle 5', 'add chain inet x c']],
  ])('is raised once by %s', (_, lines) => {
    expect(alarms(transaction(...lines))).toBe(1)
  })

  it.each([
    ['another table', ['add element inet fail2ban banned { 1.2.3.4 }', 'delete rule ip knockturn gate handle 5']],
    ['a table whose name begins as ours', ['delete table inet knockturn2', 'delete chain inet knockturn2 gate']],
    ['what only names it', ['add rule inet x c accept comment "delete table inet knockturn"']],
    ['no change', []],
  ])('is not raised by %s', (_, lines) => {
    expect(alarms(transaction(...lines))).toBe(0)
  })

  it('is raised where events were lost', () => {
    expect(alarms(['# ERROR: We lost some netlink events!'])).toBe(1)
  })
})

describe('a change of ours', () => {
  const flush = transaction('delete table inet knockturn')
  const change = transaction('add element inet knockturn open4_32 { 1.2.3.4 . tcp . 22 }')
  const table = (now = () => 0) => {
    const own = new OwnChanges(now)
    own.watch()
    return { event: OURS, own }
  }

  it('raises no alarm, whether it is seen before its end or behind it', async () => {
    const followed = table()
    await followed.own.make(async () => expect(alarms(change, [followed])).toBe(0))
    await followed.own.make(async () => {})
    expect(alarms(change, [followed])).toBe(0)
  })

  it.each([
    ['before', [...flush, ...change]],
    ['behind', [...change, ...flush]],
  ])('hides no other change %s it', async (_, lines) => {
    const followed = table()
    await followed.own.make(async () => {})
    expect(alarms(lines, [followed])).toBe(1)
  })

  it('hides nothing while nobody knows whether all are seen, as when nft begins to look', async () => {
    const followed = { event: OURS, own: new OwnChanges() }
    await followed.own.make(async () => {})
    expect(alarms(flush, [followed])).toBe(1)
  })

  it('that fails hides nothing', async () => {
    const followed = table()
    await expect(followed.own.make(() => Promise.reject(new Error('refused')))).rejects.toThrow('refused')
    expect(alarms(flush, [followed])).toBe(1)
  })

  it('that is not seen in time hides nothing later', async () => {
    let now = 0
    const followed = table(() => now)
    await followed.own.make(async () => {})
    now = 60_000
    expect(alarms(flush, [followed])).toBe(1)
  })

  it('that was made before anybody looked hides nothing, and one that is under way raises no alarm', async () => {
    const followed = table()
    await followed.own.make(async () => {})
    await followed.own.make(async () => {
      followed.own.watch()
      expect(alarms(change, [followed])).toBe(0)
    })
    expect(alarms(flush, [followed])).toBe(1)
  })

  it('of one table hides none of another', async () => {
    const [v4, v6] = (['iptables', 'ip6tables'] as const).map((family) => ({
      event: eventOf(family, FILTER),
      own: new OwnChanges(),
    }))
    await v4?.own.make(async () => {})
    const flush = transaction('delete rule ip filter INPUT handle 3', 'delete rule ip6 filter INPUT handle 3')
    expect(alarms(flush, [v4, v6] as Followed[])).toBe(1)
  })
})

describe('an alarm for iptables’ table', () => {
  const table = () => [{ event: eventOf('iptables', FILTER), own: new OwnChanges() }]

  it.each([
    'delete table ip filter',
    'delete chain ip filter KNOCKTURN-LEASES',
    'delete rule ip filter KNOCKTURN handle 4',
    'delete rule ip filter INPUT handle 3',
    'add chain ip filter INPUT { type filter hook input priority filter; policy drop; }',
    'add rule ip filter KNOCKTURN-LEASES ip saddr 1.2.3.4 tcp dport 22  counter packets 0 bytes 0 accept',
  ])('is raised by %j', (line) => {
    expect(alarms(transaction(line), table())).toBe(1)
  })

  it.each([
    'add rule ip filter f2b-sshd ip saddr 1.2.3.4 counter packets 0 bytes 0 reject',
    'delete rule ip filter FORWARD handle 3',
    'create chain ip filter KNOCKTURN-CHECK',
    'delete table ip6 filter',
    'delete table ip nat',
    'delete rule inet filter INPUT handle 3',
  ])('is not raised by %j', (line) => {
    expect(alarms(transaction(line), table())).toBe(0)
  })
})
