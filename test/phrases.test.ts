import { readdirSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { parseAst } from 'rolldown/parseAst'
import { describe, expect, it } from 'vitest'
import { plain } from './man'

/*
 * Wordings that were replaced by plain ones, in what a user reads: pages, manual, picture, examples, and the strings of our programs. Comments are
 * free. A phrase is found in any case, over line breaks and markup, and only as whole words.
 */

const ROOT = join(import.meta.dirname, '..')

/** Phrases that must not come back, by what to write instead. */
const PHRASES: Readonly<Record<string, string>> = {
  'people are "they", "whoever" or "anyone"': `
    he | him | his | himself | she | her | hers | herself | who has it can | who has the key can | who shares yours | who sits on
    who stops a knock | who is on the way | who need no knock | whom to ask | for whom it may open | nobody is asked without`,
  'an attacker is "on the path"': `
    somebody on the way | someone on the way | anybody on the way | nobody on the way`,
  'a port is "closed", or "open to everyone"': `
    shut ports | the door is shut | the port is shut | stays shut | door shuts | shut the door | shut to strangers
    lets nothing out to | open to everybody | open to strangers`,
  'a packet is "sent", a command is "run", and a program "reports" or "prints"': `
    is said again | says it again | send all the same | type "knock | say which with | say so with | say --allow-root | say nothing but
    how much to say | the log tells | server's log tells | daemon tells | client tells | may have to be told | is told of
    nothing tells whether`,
  'things are "fixed", "restored", "restarted" and "removed"': `
    mend | mends | mended | put right what | take it out by hand | take the passcode away | has taken its rule away
    our rules are put back | export the key anew | has ended and is started`,
  'plain words, and no riddle': `
    none of ours | nothing of ours | has come to nothing | what has come of it | it was a matter of time | such a one | can't be told
    that was all the time of | knocks so at once | without harm to what is there | by the clock of then | the same once more
    what is spent stays so | whoever sees it can make the codes | with the machine's power | hangs on this rule | a time to come
    need new ones in their place | stays open until it is back`,
  '"expected X, got Y" is of malformed values, not of what is missing': `
    expected behind | got it in front | and it is missing | and there is none: " | and it has none | expected to stand in
    expected a file, got something else | expected UTF-8 text, got other bytes | the same twice, got two | the same PIN twice, got two
    expected a whole age file | expected a user of its own | that holds, got one | which sees this`,
  'an option says what it does': `
    goes with | in the place of | options by their name | what makes a shell | there has never been a ledger: | let it lock addresses out
    display help for command | (default: false) | when it ends: a date | what to add to this machine | more stand more loss`,
  'the message of the log has changed: see the changelog': `
    something failed that should not | an error that nobody caught | cannot be looked after | the firewall failed
    with so many keys, clients | a key file is faulty | the file is ignored | what was read before holds | never_lock is taken over
    sealed knocks are not | too many passcodes were wrong: | too many to be logged | were not in force, and are now
    no knock is heard | do not hear the pools | passcode ports are not heard | are not those of [datagram] ports
    and it is left out | only what concerns us is read | not known whether a service | what it held is kept
    the ledger lies on tmpfs | nothing opens until it can | the ledger can be written again | but by a new key | by a new key either
    would wait for this time | need another pass | none of them is heard | the firewall logs is heard again | nothing of it could be read
    hears again | and is waited for | is followed now | cut while it was followed | runs with more than it needs
    beyond the key's share | what was spent there is forgotten`,
  'the error has changed': `
    no rule can be made | our rules cannot be made | cannot hear NFLOG | is held by another daemon | which is no daemon | holds no key
    holds the same secret | it is there already | no key that can be used for the daemon | has its passcode still
    , by its file | does not stand after | stands in front of " | (their names end | with error of no number | changing what else is there
    "code" expected 8 | is not revoked for the daemon | cannot be used for the daemon`,
  'the knock page has another message now': `
    once more … | log knows whether | browsers may not look at | from here nothing can be seen | can touch no ports | is on no network
    works by JavaScript`,
}

interface Sought {
  readonly phrase: string
  readonly reason: string
  readonly pattern: RegExp
  /** A word of it, in lower case: a text without it need not be searched. */
  readonly word: string
}

const SOUGHT: readonly Sought[] = Object.entries(PHRASES).flatMap(([reason, phrases]) =>
  phrases
    .split(/ *[|\n] */)
    .flatMap((phrase) => (phrase ? { phrase, reason, pattern: patternOf(phrase), word: longestWord(phrase) } : [])),
)

/** What finds a phrase: between two words may stand white space, the mark of a wrapped comment, and emphasis. */
function patternOf(phrase: string): RegExp {
  const words = phrase.split(' ').map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replace(/'/g, "\\\\?['’]"))
  const [before, after] = [/^\p{L}/u.test(phrase) ? '(?<!\\p{L})' : '', /\p{L}$/u.test(phrase) ? '(?!\\p{L})' : '']
  return new RegExp(`${before}${words.join('[\\s#*`_]+')}${after}`, 'giu')
}

function longestWord(phrase: string): string {
  const words = phrase.toLowerCase().match(/\p{L}+/gu) ?? ['']
  return words.reduce((longest, word) => (word.length > longest.length ? word : longest))
}

/** Which phrases a text has, each with its place. @param text what a user reads, in the lines of the file */
function phrasesIn(file: string, text: string): string[] {
  const lower = text.toLowerCase()
  return SOUGHT.filter(({ word }) => lower.includes(word)).flatMap(({ phrase, reason, pattern }) =>
    [...text.matchAll(pattern)].map(({ index }) => `${file}:${text.slice(0, index).split('\n').length}: "${phrase}" (${reason})`),
  )
}

/* ---- what a user reads of a file, in its lines */

/** The strings of a source file, each in its place. What is around them is blotted out, so that only the parts of a sum follow each other. */
function stringsOf(file: string, source: string): string {
  const strings: { readonly start: number; readonly end: number }[] = []
  const visit = (node: unknown): void => {
    if (node === null || typeof node !== 'object') return
    const { type, value, start, end } = node as { type?: string; value?: unknown; start: number; end: number }
    if (type === 'TemplateElement' || (type === 'Literal' && typeof value === 'string')) strings.push({ start, end })
    else for (const part of Object.values(node)) visit(part)
  }
  visit(parseAst(source, { lang: file.endsWith('.ts') ? 'ts' : 'js' }, file))
  strings.sort((a, b) => a.start - b.start)
  const blotted = (from: number, to: number) =>
    source
      .slice(from, to)
      .replace(/[^\s+`]/g, '|')
      .replace(/[+`]/g, ' ')
  const texts = strings.map(({ start, end }, i) => {
    const string = source.slice(start, end).replace(/^['"]|['"]$/g, ' ')
    return blotted(strings[i - 1]?.end ?? 0, start) + string
  })
  return texts.join('') + blotted(strings.at(-1)?.end ?? 0, source.length)
}

/** Without what tells of former versions: the old log messages, and all of 0.1.0. */
const presentOf = (changelog: string) =>
  changelog.replace(/^### Log messages$[\s\S]*?(?=^## )|^## \[0\.1\.0\][\s\S]*/gm, (past) => past.replace(/[^\n]/g, ''))

function readBy(file: string, text: string): string {
  if (file.endsWith('CHANGELOG.md')) return presentOf(text)
  if (file.startsWith('docs/man/')) return plain(text)
  return ['.ts', '.mjs', '.cjs'].includes(extname(file)) ? stringsOf(file, text) : text
}

const READ = ['.md', '.svg', '.key', '.html', '.ts', '.mjs', '.cjs', '.1', '.5', '.8', '.service', '.conf']
const FOLDERS = ['docs', 'keys', 'src', 'bin']
const FILES = [
  'README.md',
  ...FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  ),
].filter((file) => READ.includes(extname(file)) && !file.endsWith('.d.ts'))

describe('a phrase that must not come back', () => {
  it.each([
    ['a.md', 'It must be\n**mended**.', ['a.md:2: "mended"']],
    ['a.md', 'Amend it, and mend-free.', ['a.md:1: "mend"']],
    ['a.md', 'The line says: no\nknock is heard.', ['a.md:1: "no knock is heard"']],
    ['a.key', 'x = 1   # for whom it\n# may open', ['a.key:1: "for whom it may open"']],
    ['a.ts', "// mend it\nsay('a key ' +\n  'file is faulty')", ['a.ts:2: "a key file is faulty"']],
    ['a.ts', `say(\`\${name} hears \${x} again, it can't \` +\n  "be told")`, ['a.ts:1: "can\'t be told"']],
    ['a.ts', "say('it hears', 'again')", []],
    ['docs/man/a.1', '.B mend\nit', ['docs/man/a.1:1: "mend"']],
    ['docs/CHANGELOG.md', '### Log messages\nmend\n## [0.2.0]\nmend\n## [0.1.0]\nmend', ['docs/CHANGELOG.md:4: "mend"']],
  ])('is found in %s: %j', (file, text, found) => {
    expect(phrasesIn(file, readBy(file, text)).map((place) => place.split(' (')[0])).toEqual(found)
  })

  it('is sought once', () => {
    const phrases = SOUGHT.map(({ phrase }) => phrase)
    expect(phrases).toEqual([...new Set(phrases)])
  })

  it.each([['README.md'], ...FOLDERS.map((folder) => [folder])])('is nowhere in %s', (place) => {
    const files = FILES.filter((file) => file === place || file.startsWith(`${place}/`))
    expect(files).not.toEqual([])
    expect(files.flatMap((file) => phrasesIn(file, readBy(file, readFileSync(join(ROOT, file), 'utf8'))))).toEqual([])
  })
})
