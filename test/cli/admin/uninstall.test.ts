import { describe, expect, it } from 'vitest'
import { run } from '../programs'

/* What knockturn uninstall refuses. test/e2e/uninstall.test.ts takes a server off, and test/full does so with systemd. */

const uninstall = (...args: string[]) => run('knockturn', ['uninstall', ...args])

describe('knockturn uninstall', () => {
  it('takes it for a fault of usage that there is no terminal to ask on', async () => {
    const { code, stdout, stderr } = await uninstall()
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toBe('knockturn: error: there is no terminal to ask on\nhint: add --yes, or --dry-run to see it first\n')
  })

  it.each([[['now']], [['--force']]])('takes %j for a fault of usage', async (args) => {
    const { code, stdout } = await uninstall(...args)
    expect([code, stdout]).toEqual([2, ''])
  })
})
