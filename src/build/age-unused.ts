/*
 * What age-encryption has for files under keys, and a file under a passphrase has no use for: 220 KB that every start of a program would
 * read and parse, some 8 ms. The bundles have this in its place (src/build/bundle.mjs); sealed-key.ts turns such files away.
 */
export const MLKEM768P256 = undefined
export const MLKEM768X25519 = undefined
export const p256 = undefined
export const x25519 = undefined
