import { showers } from '../../replay/floods'
import { hosts } from '../../replay/hosts'
import { testing } from '../../replay/trial'

/** Those on the real daemon. */
export const testAttacks = testing([...hosts, ...showers], 'by real packets')
