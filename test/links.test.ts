import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '..')
const PAGES = ['README.md', 'keys/README.md', ...readdirSync(join(ROOT, 'docs')).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith('.md'),
)
const read = (page: string) => readFileSync(join(ROOT, page), 'utf8')

/** What can be linked to in a page: headings, by the names that GitHub gives them, and ids. */
function anchors(page: string): string[] {
  const headings = [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, text]) => text.replace(/<[^>]*>/g, ''))
  const slugs = headings.map((text) =>
    text
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
  return [...slugs, ...[...read(page).matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)]
}

/** The links of a page to places in this tree that are not there. */
function dead(page: string): string[] {
  const links = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link)
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false
    const [path, anchor] = link.split('#')
    const target = path ? normalize(join(dirname(page), path)) : page
    return !existsSync(join(ROOT, target)) || (anchor !== undefined && !anchors(target).includes(anchor))
  })
}

describe.each(PAGES)('%s', (page) => {
  it('has no dead link', () => {
    expect(dead(page)).toEqual([])
  })

  it('names no file of ours that is not there', () => {
    const named = [...read(page).matchAll(/`((?:src|test|docs|keys|bin)\/[\w./-]*)`/g)].map(([, path]) => path)
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })
})
