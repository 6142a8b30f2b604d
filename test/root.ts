import { dirname, join } from 'node:path'

/** This clone. A bundle lies elsewhere: test/run.mjs tells it in which folder this file was. */
export const ROOT = dirname(import.meta.dirname)
/** Where the programs are. */
export const BIN = join(ROOT, 'bin')
