import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { portal, proxy, redirect, reject } from './cafe'
import { moveBehind } from './delay'
import { browse, knockBy, outcomeOf, visit, writePage } from './page'
import { useGate } from './use-gate'

/* What a page says, in Chromium, where the café's router answers or rejects what it should send on. */

/** Where a portal listens, and one that speaks HTTP. */
const PORTAL = 8_084
const HTTP_PORTAL = 8_081
/** Browsers may not look at the first one; the second one they may. */
const SSH = 22
const OTHER_SSH = 2222
/** Round trip to the router, in milliseconds. */
const FAR = 40

const ANSWERED =
  'Something on the network path answers every connection, even to closed ports. This page cannot see whether the door is open'

const { server, router, guest, gate, lab } = useGate(['router', 'guest'], {
  serve: [SSH, OTHER_SSH],
  keyOptions: ['--services', `${SSH}/tcp,${OTHER_SSH}/tcp`],
})
let browser: Browser
/** The router's device to the guest. */
let device: string
let path: string
let page: Page
/** Takes the middlebox of a test away. */
let away: () => Promise<unknown> = async () => {}

beforeAll(async () => {
  device = await moveBehind(guest, router, FAR / 2, 2)
  const folder = lab.folder()
  browser = await browse(guest, folder)
  path = await writePage(gate, server, join(folder, 'knock.html'), [SSH, OTHER_SSH])
})
afterAll(() => browser?.close())
beforeEach(async () => {
  await router.moveOn()
  ;({ page } = await visit(browser, path))
})
afterEach(async () => {
  await page.context().close()
  await away()
  away = async () => {}
})

/** Knocks for a door. @returns what it has ended with, and what the page says */
async function knocked(door: number) {
  await knockBy(page, door)
  return { outcome: await outcomeOf(page), said: await page.getByRole('status').textContent() }
}

describe('a proxy that accepts every connection', () => {
  beforeEach(async () => {
    away = await proxy(router, device)
  })

  it('has no door said to be open', async () => {
    expect(await knocked(OTHER_SSH)).toEqual({ outcome: 'answered', said: expect.stringContaining(ANSWERED) })
  })

  it('is told of where the browser may not look at the door either', async () => {
    expect(await knocked(SSH)).toEqual({ outcome: 'answered', said: expect.stringContaining(ANSWERED) })
  })

  it('is told of as soon as the knock is whole', async () => {
    await knockBy(page, OTHER_SSH)
    await page.locator('#status[data-outcome=try]').filter({ hasText: ANSWERED }).waitFor()
    expect(await page.locator('#go').textContent()).toBe('Knocking again …')
  })

  it('has the knock arrive all the same', async () => {
    const since = gate.daemon.lines.length
    await knockBy(page, OTHER_SSH)
    await gate.daemon.line(logged('accepted', { source: router.ipv4 }), since)
  })
})

describe('a portal that answers everything itself', () => {
  it('is told of, and then opens nothing until its guest has logged in', async () => {
    const login = await portal(router, device, PORTAL)
    away = login
    expect(await knocked(OTHER_SSH)).toEqual({ outcome: 'answered', said: expect.stringContaining('log in to this network') })
    away = async () => {}
    await login()
    expect((await knocked(OTHER_SSH)).outcome).toBe('opened')
  })

  it('is seen without WebRTC, too, where it speaks HTTP', async () => {
    const script = `require('node:http').createServer((_, answer) => answer.end('log in')).listen(${HTTP_PORTAL}, () => console.log('serves'))`
    const http = router.start([process.execPath, '-e', script])
    await http.line((line) => line === 'serves')
    const back = await redirect(router, device, HTTP_PORTAL)
    away = () => Promise.all([back(), http.end()])
    await page.context().close()
    ;({ page } = await visit(browser, path, { webRtc: false }))
    expect(await knocked(OTHER_SSH)).toEqual({ outcome: 'answered', said: expect.stringContaining(ANSWERED) })
  })
})

describe.each(['icmp-port-unreachable', 'tcp-reset'])('a portal that rejects everything by %s', (how) => {
  it('has the user sent to its login page first', async () => {
    away = await reject(router, device, how)
    expect(await knocked(OTHER_SSH)).toEqual({
      outcome: 'rejected',
      said: expect.stringMatching(/^Log in to this network first/),
    })
  })
})
