// A knock page, and the browser of a host that knocks by it.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import type { Contents } from '../../src/browser/contents'
import { httpHosts, pageText } from '../../src/browser/file'
import { loadKeyFile } from '../../src/keys/keyring'
import { sealBytes } from '../../src/keys/sealed-key'
import { formatPool } from '../../src/protocol/pool'
import type { Gate } from '../lab/gate'
import type { Host } from '../lab/host'
import { until } from '../lab/waiters'
import { ROOT } from '../root'

export const PASSPHRASE = 'correct horse battery staple'
/** Light, so that a test need not wait for scrypt; the page of the program itself has the real one. */
const WORK_FACTOR = 10

/** Starts a browser of a host: in its network, and with nobody's profile. */
export async function browse(host: Host, folder: string): Promise<Browser> {
  const wrapper = join(folder, 'chromium')
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${host.namespace} chromium "$@"\n`)
  chmodSync(wrapper, 0o755)
  const args = ['--headless=new', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
  return chromium.launch({
    executablePath: wrapper,
    chromiumSandbox: false,
    args: [...args, '--disable-component-update', '--disable-sync'],
    env: { ...process.env, HOME: folder } as Record<string, string>,
  })
}

/**
 * Writes a page as `knockturn page` makes it, but for the work of its passphrase.
 * @param doors TCP ports
 * @param more in place of what it has otherwise
 */
export async function writePage(gate: Gate, server: Host, path: string, doors: number[], more: Partial<Contents> = {}) {
  const { key } = await loadKeyFile(gate.key)
  const addresses = more.addresses ?? [server.ipv4]
  const contents = {
    kind: 'key',
    host: server.ipv4,
    addresses,
    http: httpHosts(server.ipv4, addresses),
    period: key.period,
    server: key.server,
    doors: doors.map((port) => ({ port, protocol: 'tcp' })),
    pool: formatPool(key.pool),
    seconds: 60,
    max: 3600,
    sealed: Buffer.from(await sealBytes(key.secret, PASSPHRASE, WORK_FACTOR)).toString('base64'),
    ...more,
  } as Contents
  const read = (...names: string[]) => readFileSync(join(ROOT, ...names), 'utf8')
  const parts = { html: read('src/browser/index.html'), style: read('src/browser/style.css'), script: read('dist/page.txt') }
  writeFileSync(path, pageText(parts, contents))
  return path
}

/**
 * Opens a page in a browser that has never been anywhere, from a file or from a web host.
 * @returns with all that it complains of
 */
export async function visit(
  browser: Browser,
  path: string,
  { webRtc = true, at = pathToFileURL(path).href }: { webRtc?: boolean; at?: string } = {},
): Promise<{ page: Page; complaints: string[] }> {
  const context = await browser.newContext()
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', ({ message }) => complaints.push(message))
  page.on('console', (message) => {
    if (/policy/i.test(message.text())) complaints.push(message.text())
  })
  if (!webRtc) await page.addInitScript('delete globalThis.RTCPeerConnection; delete globalThis.webkitRTCPeerConnection')
  if (at.startsWith('http')) await page.route(at, (route) => route.fulfill({ path, contentType: 'text/html' }))
  await page.goto(at)
  return { page, complaints }
}

export const press = (page: Page) => page.getByRole('button', { name: 'Knock' }).click()

/** Types the passphrase, and knocks for a door. */
export async function knockBy(page: Page, door: number) {
  await page.getByLabel('Open').selectOption(`port ${door}`)
  await page.getByLabel('Passphrase').fill(PASSPHRASE)
  await press(page)
}

/** What a knock has ended with. @returns as src/browser/knocking.ts calls it */
export async function outcomeOf(page: Page): Promise<string | null> {
  const status = page.getByRole('status')
  const settled = async () => !['', 'busy', 'try'].includes((await status.getAttribute('data-outcome')) ?? '')
  await until(settled, 'the page has an outcome', 90_000)
  return status.getAttribute('data-outcome')
}
