/* What `knockturn page` puts into a page for its script to read. None of it is secret but what is sealed. */

/** What a page may open, or look at. */
export interface Door {
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
}

/** What every page knows. */
interface Place {
  /** What people call the server: a name or an address. */
  readonly host: string
  /** Where to knock: ICE takes no names. */
  readonly addresses: readonly string[]
  /** Where to knock by HTTP where there is no WebRTC: hosts that a content security policy can name, so no IPv6 address. */
  readonly http: readonly string[]
  readonly doors: readonly Door[]
  /** Seconds of a window. */
  readonly period: number
}

/** A page with a key in it. */
export interface KeyPage extends Place {
  readonly kind: 'key'
  readonly server: string
  readonly pool: string
  /** The secret's 32 bytes as an age file, sealed by a passphrase, in base64. */
  readonly sealed: string
  /** Seconds that a lease lasts unless another time is chosen, and at most. */
  readonly seconds: number
  readonly max: number
}

/** A page without a key: for PIN and code. */
export interface PasscodePage extends Place {
  readonly kind: 'passcode'
  readonly base: number
  readonly pinDigits: number
}

export type Contents = KeyPage | PasscodePage
