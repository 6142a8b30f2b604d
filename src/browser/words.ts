import type { Blindness } from './knocking'

/** What the time menu offers, in seconds. */
const TIMES = [60, 300, 900, 1_800, 3_600, 4 * 3_600, 8 * 3_600, 24 * 3_600]

/** The lifetimes to choose from: the usual ones that the key may have, its own default and its longest. */
export function lifetimes(usual: number, max: number): number[] {
  return [...new Set([...TIMES.filter((seconds) => seconds <= max), Math.min(usual, max), max])].sort((a, b) => a - b)
}

/** Seconds in words: `1 hour 30 minutes`. */
export function duration(seconds: number): string {
  const parts: [number, string][] = [
    [Math.floor(seconds / 3600), 'hour'],
    [Math.floor(seconds / 60) % 60, 'minute'],
    [seconds % 60, 'second'],
  ]
  const said = parts.filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}${count === 1 ? '' : 's'}`)
  return said.join(' ') || '0 seconds'
}

/**
 * What to do at a port that has opened: a line for a terminal or an address for the browser, by what usually serves there.
 * @param way for ssh: "-4 " or "-6 " where the door has opened by that family alone
 */
export function nextStep(host: string, port: number, way = ''): { readonly line: string; readonly url: string | null } {
  const named = host.includes(':') ? `[${host}]` : host
  if (port === 22) return { line: `ssh ${way}${host}`, url: null }
  if (port === 2222) return { line: `ssh ${way}-p ${port} ${host}`, url: null }
  if (port === 443) return { line: `https://${named}/`, url: `https://${named}/` }
  if (port === 8443) return { line: `https://${named}:${port}/`, url: `https://${named}:${port}/` }
  const http = port === 80 ? `http://${named}/` : `http://${named}:${port}/`
  if ([80, 3000, 8000, 8080, 8888].includes(port)) return { line: http, url: http }
  return { line: `${named}:${port}`, url: null }
}

/** What to report of a port that answers when that proves nothing about the knock. */
export const UNPROVEN = 'only the server’s log shows whether it accepted this knock.'

/**
 * What a page reports of a knock when it can't see whether it opens, by why.
 * @param line what to try
 * @param doors the ports that were asked for
 * @param look the one that this browser may look at; null: it may at none
 */
export function unseen(line: string, doors: readonly string[], look: number | null): Readonly<Record<Blindness, string>> {
  const blindness = look
    ? `This browser can see port ${look} only if HTTP answers there, and nothing has answered.`
    : `This page cannot see whether the door is open: browsers refuse to connect to port ${doors.join(' or ')}.`
  const elsewhere = 'use another network, such as your phone’s, or knock with the program knockclient and its option --udp'
  return {
    sent: `Knocked. Try: ${line} – ${blindness}`,
    answered: `Knocked. Try: ${line} – Something on the network path answers every connection, even to closed ports. This page cannot see whether the door is open, and the knock may not have arrived. If the door is closed: log in to this network, if it has a login page, and knock again. If that does not help, ${elsewhere}.`,
    rejected: `Log in to this network first, if it has a login page, and knock again. The ports of the knock are rejected at once, but a server that hears knocks is silent. If that does not help, ${elsewhere}.`,
  }
}

/** What may be wrong when a door stays closed. @param byKey whether it was knocked by a key, not by a passcode */
export function hints(byKey: boolean): string {
  const first = byKey
    ? 'Is this device’s clock right? Is the key still valid, and may it open this port?'
    : 'Were the PIN and the code right, and was the code current?'
  return `${first} Is the service running? Does this network allow connections to high ports? The server’s log shows what happened: this page cannot see it.`
}
