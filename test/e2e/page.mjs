// A knock page, and the browser of a host that knocks by it.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { httpHosts, pageText } from '../../src/browser/file'
import { loadKeyFile } from '../../src/keys/keyring'
import { sealBytes } from '../../src/keys/sealed-key'
import { formatPool } from '../../src/protocol/pool'
import { until } from './lab.mjs'

/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('playwright-core').Page} Page */
/** @typedef {import('../../src/browser/contents').Contents} Contents */
/** @typedef {import('./lab.mjs').Host} Host */
/** @typedef {import('./lab.mjs').Gate} Gate */

const ROOT = join(import.meta.dirname, '..', '..')
export const PASSPHRASE = 'correct horse battery staple'
/** Light, so that a test need not wait for scrypt; the page of the program itself has the real one. */
const WORK_FACTOR = 10

/** Starts a browser of a host: in its network, and with nobody's profile. @param {Host} host @param {string} folder @returns {Promise<Browser>} */
export async function browse(host, folder) {
  const wrapper = join(folder, 'chromium')
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${host.namespace} chromium "$@"\n`)
  chmodSync(wrapper, 0o755)
  const args = ['--headless=new', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking']
  return chromium.launch({
    executablePath: wrapper,
    chromiumSandbox: false,
    args: [...args, '--disable-component-update', '--disable-sync'],
    env: /** @type {Record<string, string>} */ ({ ...process.env, HOME: folder }),
  })
}

/**
 * Writes a page as `knockturn page` makes it, but for the work of its passphrase.
 * @param {Gate} gate
 * @param {Host} server
 * @param {string} path
 * @param {number[]} doors TCP ports
 * @param {Partial<Contents>} [more] in place of what it has otherwise
 */
export async function writePage(gate, server, path, doors, more = {}) {
  const { key } = await loadKeyFile(gate.key)
  const addresses = more.addresses ?? [server.ipv4]
  const contents = /** @type {Contents} */ ({
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
  })
  const read = (/** @type {string[]} */ ...names) => readFileSync(join(ROOT, ...names), 'utf8')
  const parts = { html: read('src/browser/index.html'), style: read('src/browser/style.css'), script: read('dist/page.txt') }
  writeFileSync(path, pageText(parts, contents))
  return path
}

/**
 * Opens a page in a browser that has never been anywhere, from a file or from a web host.
 * @param {Browser} browser
 * @param {string} path
 * @param {{ webRtc?: boolean, at?: string }} [how]
 * @returns {Promise<{ page: Page, complaints: string[] }>} with all that it complains of
 */
export async function visit(browser, path, { webRtc = true, at = pathToFileURL(path).href } = {}) {
  const context = await browser.newContext()
  const page = await context.newPage()
  /** @type {string[]} */
  const complaints = []
  page.on('pageerror', ({ message }) => complaints.push(message))
  page.on('console', (message) => {
    if (/policy/i.test(message.text())) complaints.push(message.text())
  })
  if (!webRtc) await page.addInitScript('delete globalThis.RTCPeerConnection; delete globalThis.webkitRTCPeerConnection')
  if (at.startsWith('http')) await page.route(at, (route) => route.fulfill({ path, contentType: 'text/html' }))
  await page.goto(at)
  return { page, complaints }
}

/** @param {Page} page */
export const press = (page) => page.getByRole('button', { name: 'Knock' }).click()

/** Types the passphrase, and knocks for a door. @param {Page} page @param {number} door */
export async function knockBy(page, door) {
  await page.getByLabel('Open').selectOption(`port ${door}`)
  await page.getByLabel('Passphrase').fill(PASSPHRASE)
  await press(page)
}

/** What a knock has ended with. @param {Page} page @returns {Promise<string | null>} as src/browser/knocking.ts calls it */
export async function outcomeOf(page) {
  const status = page.getByRole('status')
  const settled = async () => !['', 'busy', 'try'].includes((await status.getAttribute('data-outcome')) ?? '')
  await until(settled, 'the page has an outcome', 90_000)
  return status.getAttribute('data-outcome')
}
