import { catalogue } from '../catalogue'
import { testing } from '../trial'

/** Those on the pipeline. */
export const testAttacks = testing(catalogue, 'in this process')
