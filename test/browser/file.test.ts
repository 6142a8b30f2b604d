import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Decrypter } from 'age-encryption'
import { describe, expect, it } from 'vitest'
import type { Contents } from '../../src/browser/contents'
import { httpHosts, pageText } from '../../src/browser/file'
import { sealBytes } from '../../src/keys/sealed-key'

const source = (name: string) => readFileSync(new URL(`../../src/browser/${name}`, import.meta.url), 'utf8')
const [html, style] = [source('index.html'), source('style.css')]
const contents: Contents = {
  ...{ kind: 'passcode', host: 'gate.example', addresses: ['198.51.100.1'], http: ['198.51.100.1'], period: 30 },
  ...{ doors: [], base: 48_000, pinDigits: 4 },
}
const script = 'document.title = "$&"'
const page = pageText({ html, style, script }, contents)
const policy = (text: string) => /http-equiv="Content-Security-Policy" content="(.*?)"/.exec(text)?.[1].split('; ')
const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

describe('a page', () => {
  it('holds all of its parts, as they are', () => {
    expect(page).toContain(`<script>${script}</script>`)
    expect(page).toContain(`<style>${style}</style>`)
    expect(page).not.toContain('<!--')
  })

  it('lets run nothing but its own script, and reaches nothing but its server', () => {
    expect(policy(page)).toEqual([
      "default-src 'none'",
      `script-src ${hash(script)}`,
      `style-src ${hash(style)}`,
      'connect-src http://198.51.100.1:*',
      "base-uri 'none'",
      "form-action 'none'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ])
  })

  it('reaches nothing by HTTP where it may not', () => {
    expect(policy(pageText({ html, style, script }, { ...contents, http: [] }))).toContain("connect-src 'none'")
  })

  it('has its policy in front of everything that it is about', () => {
    expect(page.indexOf('Content-Security-Policy')).toBeLessThan(page.indexOf('<style>'))
  })

  it('loads nothing', () => {
    expect(html + style).not.toMatch(/\b(src|href)="(?!about:)|url\(|@import/)
  })

  it('is not ended by what it is told', () => {
    const told = pageText({ html, style, script }, { ...contents, host: '</script><script>alert(1)</script>' })
    expect(told.match(/<\/script>/g)?.length).toBe(2)
    expect(JSON.parse(/id="contents">(.*?)<\/script>/.exec(told)?.[1] ?? '').host).toBe('</script><script>alert(1)</script>')
  })
})

describe('a secret', () => {
  const secret = Uint8Array.from({ length: 32 }, (_, i) => i)

  it('is sealed by its passphrase', async () => {
    const decrypter = new Decrypter()
    decrypter.addPassphrase('correct horse')
    expect(await decrypter.decrypt(await sealBytes(secret, 'correct horse', 4))).toEqual(secret)
  })
})

describe('HTTP hosts', () => {
  it.each([
    ['gate.example', ['198.51.100.1', '2001:db8::1'], ['198.51.100.1']],
    ['gate.example', ['2001:db8::1'], ['gate.example']],
    ['2001:db8::1', ['2001:db8::1'], []],
  ])('of %s at %j are %j', (host, addresses, hosts) => {
    expect(httpHosts(host, addresses)).toEqual(hosts)
  })
})

describe('the colours', () => {
  const themes = [...style.matchAll(/:root \{([^}]*)\}/g)].map(([, rules]) =>
    Object.fromEntries([...rules.matchAll(/--([\w-]+): (#\w{6})/g)].map(([, name, colour]) => [name, colour])),
  )
  /** Relative luminance and contrast (WCAG 2.2). */
  const luminance = (colour: string) => {
    const [r, g, b] = [1, 3, 5].map((at) => {
      const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const contrast = (a: string, b: string) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y)
    return (light + 0.05) / (dark + 0.05)
  }
  const pairs: [on: string, under: string, least: number][] = [
    ['ink', 'card', 4.5],
    ['ink', 'faint', 4.5],
    ['soft', 'card', 4.5],
    ['soft', 'faint', 4.5],
    ['on-accent', 'accent', 4.5],
    ['accent', 'card', 4.5],
    ['fault', 'card', 4.5],
    ['line', 'card', 3],
    ['accent', 'faint', 3],
    ['fault', 'faint', 3],
  ]

  it('are those of two themes', () => {
    expect(themes.map((theme) => Object.keys(theme).length)).toEqual([9, 9])
  })

  it.each(
    themes.flatMap((theme, i) => pairs.map(([on, under, least]) => [['light', 'dark'][i], on, under, least, theme] as const)),
  )('of the %s theme, %s on %s, have a contrast of %d', (_, on, under, least, theme) => {
    expect(contrast(theme[on], theme[under])).toBeGreaterThanOrEqual(least)
  })
})
