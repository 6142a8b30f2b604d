import { readFileSync, rmSync } from 'node:fs'
import { afterEach, expect, it } from 'vitest'
import { FILTER, followTables } from '../../../src/daemon/iptables/follow'
import { OwnChanges } from '../../../src/daemon/nftables/monitor'
import { until } from '../../lab/waiters'
import { put, scratch } from '../../system/scratch'

/* The old iptables, of whose changes nobody tells. */

const path = process.env.PATH
const ending = new AbortController()
afterEach(() => {
  ending.abort()
  process.env.PATH = path
})

it('a jump that another program takes away raises an alarm, and one only', async () => {
  const folder = scratch()
  const jump = put(folder, 'jump', '')
  const looked = put(folder, 'looked', '')
  const script = `[ "$1" = --version ] && echo "iptables v1.8.9 (legacy)" && exit\necho >> ${looked}\n[ -e ${jump} ]`
  put(folder, 'iptables', `#!/bin/sh\n${script}\n`, 0o755)
  process.env.PATH = `${folder}:${path}`
  const looks = () => readFileSync(looked, 'utf8').length
  const goesOn = async () => {
    const before = looks()
    await until(() => looks() > before + 1, 'it has looked twice')
  }
  const warned: string[] = []
  let alarms = 0
  const follow = followTables(new Map([['iptables', new OwnChanges()]]), FILTER, (message) => warned.push(message))
  follow(() => alarms++, ending.signal)
  await goesOn()
  expect(alarms).toBe(0)
  rmSync(jump)
  await until(() => alarms > 0, 'there is an alarm')
  await goesOn()
  expect([alarms, warned]).toEqual([1, []])
})
