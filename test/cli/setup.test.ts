import { describe, expect, it } from 'vitest'
import { run } from './programs'

/* What knockturn setup refuses before it looks at anything. test/e2e and test/full set servers up. */

const setup = (...args: string[]) => run('knockturn', ['setup', ...args])

describe('knockturn setup', () => {
  it.each([
    [[], 'there is no terminal to ask questions on'],
    [['--for', '5m'], 'there is no terminal to ask questions on'],
    [['--yes', '--for', '1s'], '--for expected a duration from 10s to 24h, such as 5m, got "1s"'],
    [['--yes', '--host', 'https://gate.example/'], '--host expected a host name or an address, without port or brackets, got'],
    [['--yes', '--key', '../alice'], '--key expected 1 to 32 letters'],
    [['--yes', '--guard', 'everything'], '--guard expected all, or ports such as 22/tcp,60000-61000/udp, got "everything"'],
    [['--yes', '--guard', '22/tcp', '--public', '80/tcp'], '--public requires --guard all'],
    [['--yes', '--public', '80/http'], '--public expected ports such as'],
    [['--yes', '--backend', 'command'], '--backend expected one of nftables, iptables, got "command"'],
    [['--confirm', '--yes'], '--yes does not go with --confirm'],
    [['--confirm', '--revert'], '--revert does not go with --confirm'],
    [['--revert', '--for', '1m'], '--for does not go with --revert'],
  ])('takes %j for a fault of usage', async (args, message) => {
    const { code, stdout, stderr } = await setup(...args)
    expect([code, stdout, stderr]).toEqual([2, '', expect.stringContaining(`knockturn: error: ${message}`)])
    expect(stderr.trimEnd().split('\n')).toHaveLength(2)
  })

  it.each([[['--yes']], [['--dry-run']], [['--confirm']], [['--revert']]])('is for root alone: %j', async (args) => {
    const { code, stdout, stderr } = await setup(...args)
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(/^knockturn: error: .*root.*\nhint: .*root.*\n$/)])
  })
})
