// The licences of what is in the bundles, which has to come with them wherever they go: dist/copyright, in Debian's machine-readable form (DEP 5).

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A library's folder, in the paths that esbuild names. */
const LIBRARY = /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/
const HOLDER = /^\W*Copyright\b/

/** A text as DEP 5 has it: each line begins with a space, and an empty one has a dot. @param {string} text */
const indented = (text) =>
  text
    .trim()
    .replace(/^[^\S\n]*$/gm, '.')
    .replace(/^/gm, ' ')

/** @param {string} folder a library's, or our own */
function licenceIn(folder) {
  const { license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name))
  if (!license || !file) throw new Error(`${folder}: no licence, and nothing may be bundled without one`)
  const lines = readFileSync(join(folder, file), 'utf8').split(/\r?\n/)
  const text = lines.filter((line) => !HOLDER.test(line)).join('\n')
  return { name: license, holders: lines.filter((line) => HOLDER.test(line)).map((line) => line.trim()), text }
}

/**
 * @param {string} root the folder of the sources
 * @param {string[]} inputs the files that went into the bundles, by their paths in there
 * @returns what to write
 */
export function copyrightOf(root, inputs) {
  const folders = new Set(inputs.flatMap((path) => LIBRARY.exec(path)?.[0] ?? []))
  /** The name of each licence, by its words alone: lines are broken differently in copies of the same one. @type {Map<string, {name: string, text: string}>} */
  const known = new Map()
  const stanzas = ['', ...[...folders].sort()].map((folder) => {
    const { name, holders, text } = licenceIn(join(root, folder))
    const words = text
      .replace(/^(the )?(mit|isc) license( \(mit\))?$/im, '')
      .replace(/\W+/g, ' ')
      .trim()
      .toLowerCase()
    const others = [...known.values()].filter((licence) => licence.name.split('-wording-')[0] === name).length
    const licence = known.get(words) ?? { name: others === 0 ? name : `${name}-wording-${others + 1}`, text }
    known.set(words, licence)
    return `Files: ${folder === '' ? '*' : `${folder}/*`}\nCopyright:\n${indented(holders.join('\n'))}\nLicense: ${licence.name}\n`
  })
  const licences = [...known.values()].map(({ name, text }) => `License: ${name}\n${indented(text)}\n`)
  const head = 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Knockturn\n'
  return [head, ...stanzas, ...licences].join('\n')
}
