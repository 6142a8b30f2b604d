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
