import { showers } from '../../replay/floods.mjs'
import { hosts } from '../../replay/hosts.mjs'
import { testing } from '../../replay/trial'

/** Those on the real daemon. */
export const testAttacks = testing([...hosts, ...showers], 'by real packets')
