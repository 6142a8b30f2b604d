import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { base64 } from '@scure/base'
import { addressBytes } from '../protocol/address'
import type { Contents } from './contents'

/** What a page is made of: src/browser/index.html, src/browser/style.css and the bundled src/browser/main.ts. */
export interface PageParts {
  readonly html: string
  readonly style: string
  readonly script: string
}

/** Where a page may send HTTP requests to, for want of WebRTC: a content security policy can't name an IPv6 address. */
export function httpHosts(host: string, addresses: readonly string[]): string[] {
  const isIpv4 = (address: string) => !address.includes(':') && addressBytes(address) !== null
  const named = addresses.filter(isIpv4)
  return named.length > 0 || addressBytes(host.replace(/%.*$/, '')) ? named : [host]
}

/** One self-contained HTML file. Its policy lets it run its own script and reach nothing but its server. */
export function pageText({ html, style, script }: PageParts, contents: Contents): string {
  // A browser takes carriage returns for line feeds before it hashes.
  const [css, js] = [style, script].map((text) => text.replace(/\r\n?/g, '\n'))
  const connect = contents.http.flatMap((host) => [`http://${host}:*`]).join(' ') || "'none'"
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(js)}'`,
    `style-src '${hashOf(css)}'`,
    `connect-src ${connect}`,
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ')
  const parts: Record<string, string> = {
    policy: `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    style: `<style>${css}</style>`,
    // Nothing in it may end the element that holds it.
    contents: `<script type="application/json" id="contents">${JSON.stringify(contents).replaceAll('<', '\\u003c')}</script>`,
    script: `<script>${js}</script>`,
  }
  return html.replace(/<!--(\w+)-->/g, (comment, name) => parts[name] ?? comment)
}

/** A source of a content security policy: what may run, by its hash (CSP 3, "hash-source"). */
function hashOf(text: string): string {
  return `sha256-${base64.encode(sha256(utf8ToBytes(text)))}`
}
