// Which commit is built, for --version and for the date of packages.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What git fills in when it makes an archive (src/build/.gitattributes), where there is no git any more: the commit, and its date. */
const ARCHIVED = 'src/build/commit.txt'
/** What is built from. Other files may change without a trace in what is built. */
const SOURCES = ['bin', 'docs', 'keys', 'src', 'LICENSE', 'README.md', 'package.json', 'package-lock.json']
/** Digits of a commit's name: always the same, whatever a clone's git takes for enough. */
const LENGTH = 7
/** The date of what is built where nobody knows the commit, in seconds: 1 January 2026. */
const UNKNOWN_DATE = 1767225600

/**
 * @typedef {object} Commit
 * @property {string} name the beginning of its name, with "+" behind it where the sources have changed since; empty where it is not known
 * @property {number} date in seconds: the same commit is built to the same bytes
 */

/**
 * @param {string} root the folder of the sources: of a clone, or of an archive that git has made of one
 * @returns {Commit}
 */
export function commitOf(root) {
  /** @param {string[]} args */
  const git = (...args) => {
    const { status, stdout } = spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' })
    return status === 0 ? stdout.trim() : null
  }
  // In another repository, the commit would be that one's.
  const isClone = git('rev-parse', '--show-prefix') === ''
  const told = isClone ? git('log', '-1', '--format=%H %ct') : readFileSync(join(root, ARCHIVED), 'utf8')
  const [, hash, date] = /^([0-9a-f]{40,64}) (\d+)\s*$/.exec(told ?? '') ?? []
  if (!hash) return { name: '', date: UNKNOWN_DATE }
  const isChanged = isClone && git('status', '--porcelain', '--', ...SOURCES) !== ''
  return { name: `${hash.slice(0, LENGTH)}${isChanged ? '+' : ''}`, date: Number(date) }
}
