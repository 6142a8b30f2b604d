import { describe, expect, it } from 'vitest'
import { obstacleOf } from '../../../src/daemon/command/network'

/** As `systemctl show` prints the unit of docs/systemd. */
const UNIT = `LoadState=loaded
RestrictAddressFamilies=AF_NETLINK AF_UNIX
IPAddressDeny=::/0 0.0.0.0/0
IPAddressAllow=
`
const withIp = UNIT.replace('AF_UNIX', 'AF_UNIX AF_INET AF_INET6')

describe('the daemon’s unit', () => {
  it.each([
    ['as it is', UNIT, 'RestrictAddressFamilies'],
    ['that forbids IP by name', UNIT.replace(/AF_NETLINK.*/, '~AF_INET AF_INET6'), 'RestrictAddressFamilies'],
    ['with IP and without addresses', withIp, 'IPAddressDeny'],
    ['with IP and a router', withIp.replace('Allow=', 'Allow=192.0.2.1/32'), null],
    ['with IP and nothing denied', withIp.replace('::/0 0.0.0.0/0', ''), null],
    ['that restricts nothing', 'LoadState=loaded\nRestrictAddressFamilies=\nIPAddressDeny=\nIPAddressAllow=\n', null],
    ['that there is not', UNIT.replace('loaded', 'not-found'), null],
    ['of a machine without systemd', '', null],
  ])('%s', (_, shown, obstacle) => {
    expect(obstacleOf(shown)).toBe(obstacle)
  })
})
