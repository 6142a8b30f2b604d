// Those who are asked for the time, with clocks that are right or wrong.

import { join } from 'node:path'
import type { Host } from '../lab/host'

const [NTP, HTTPS] = [1123, 8443]
/** How many seconds a clock may be wrong by: each has a port of its own. */
const MOST = 1_000

export type Dated = { url: string; env: NodeJS.ProcessEnv }

/** An NTP server whose clock is ahead by so many seconds. */
const ntpServer = (ahead: number) => `
const socket = require('node:dgram').createSocket('udp4')
const time = (packet, at) => {
  const now = Date.now() / 1000 + ${ahead} + 2208988800
  packet.writeUInt32BE(Math.floor(now), at)
  packet.writeUInt32BE(Math.floor((now % 1) * 2 ** 32), at + 4)
}
socket.on('message', (request, { address, port }) => {
  const answer = Buffer.alloc(48)
  answer[0] = (4 << 3) | 4
  answer[1] = 2
  request.copy(answer, 24, 40, 48)
  time(answer, 32)
  time(answer, 40)
  socket.send(answer, port, address)
})
socket.bind(${NTP + ahead}, () => console.log('listening'))`

/** A web server with such a clock. @param folder of its certificate */
const webServer = (ahead: number, folder: string) => `
const { readFileSync } = require('node:fs')
const [key, cert] = ['key.pem', 'cert.pem'].map((name) => readFileSync('${folder}/' + name))
require('node:https')
  .createServer({ key, cert }, (_, response) => {
    response.setHeader('date', new Date(Date.now() + ${ahead * 1000}).toUTCString())
    response.end()
  })
  .listen(${HTTPS + ahead}, () => console.log('listening'))`

async function serve(host: Host, script: string, ahead: number) {
  if (ahead < 0 || ahead >= MOST) throw new RangeError(`expected 0 to ${MOST - 1} seconds, got ${ahead}`)
  const server = host.start([process.execPath, '-e', script])
  await server.line((line) => line === 'listening')
}

/** Starts an NTP server whose clock is ahead by so many seconds. @returns what --time-source takes */
export async function serveNtp(host: Host, ahead: number) {
  await serve(host, ntpServer(ahead), ahead)
  return `ntp://${host.ipv4}:${NTP + ahead}`
}

/**
 * Starts a web server whose clock is ahead by so many seconds.
 * @returns what --time-source takes, and the environment in which its certificate is good
 */
export async function serveDate(host: Host, ahead: number): Promise<Dated> {
  const folder = host.lab.folder()
  const cert = join(folder, 'cert.pem')
  const files = ['-keyout', join(folder, 'key.pem'), '-out', cert]
  const subject = ['-subj', '/CN=time', '-addext', `subjectAltName=IP:${host.ipv4}`]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  await host.must(['openssl', 'req', '-x509', ...curve, '-nodes', '-days', '1', ...files, ...subject])
  await serve(host, webServer(ahead, folder), ahead)
  return { url: `https://${host.ipv4}:${HTTPS + ahead}`, env: { NODE_EXTRA_CA_CERTS: cert } }
}
