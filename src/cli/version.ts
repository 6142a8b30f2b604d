import { version } from '../../package.json'

/** The commit that a bundle is built from: src/build/bundle.mjs puts it here. Empty where it was not known. */
declare const BUILT_FROM: string

const commit = typeof BUILT_FROM === 'string' ? BUILT_FROM : ''

/** What --version says behind the program's name, such as `0.1.0 (a820981)`; `+` behind the commit stands for sources changed since. */
export const VERSION = commit === '' ? version : `${version} (${commit})`
