/* What a manual page says, from its source. */

/** Source without its markup. */
export const plain = (source: string) =>
  source
    .replace(/^\.(B|I|BI|BR|IR|RB|RI|OP|SY|SH|SS) /gm, '')
    .replace(/\\f[BIRP]/g, '')
    .replace(/\\\(dq/g, '"')
    .replace(/\\-/g, '-')
    .replace(/\\e/g, '\\')
/** The text of a section. */
export const section = (page: string, heading: string) =>
  page.split(/^\.SH /m).find((part) => part.startsWith(`${heading}\n`)) ?? ''
/** What a list defines: the lines below .TP and .TQ. */
export const tags = (source: string) => [...source.matchAll(/^\.T[PQ]\n(.*)$/gm)].map(([, tag]) => plain(tag))
