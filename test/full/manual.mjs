// docs/by-hand.md and docs/operating.md, as they are followed word for word.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const PAGES = ['by-hand', 'operating'].map((name) => fileURLToPath(new URL(`../../docs/${name}.md`, import.meta.url)))

/**
 * The commands of a section, a text for each of its blocks, in their order; throws if there are none.
 * @param {string} heading without its marks
 */
export function commands(heading) {
  const section = PAGES.flatMap((path) => readFileSync(path, 'utf8').split(/^(?=#+ )/m)).find((text) =>
    text.replace(/^#+ /, '').startsWith(`${heading}\n`),
  )
  const blocks = [...(section ?? '').matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text)
  if (blocks.length === 0) throw new Error(`no commands under "${heading}" in ${PAGES.join(' and ')}`)
  return blocks
}

/** The packages that the manual has an administrator install. @returns {string[]} */
export function packages() {
  const [, names] =
    /^apt-get install -y --no-install-recommends ([a-z\d -]+?) *(?:#.*)?$/m.exec(commands('Install').join('')) ?? []
  if (!names) throw new Error(`${PAGES[0]}: no "apt-get install -y --no-install-recommends ..." under "Install"`)
  return names.split(' ')
}
