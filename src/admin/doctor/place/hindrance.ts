import { Fault } from '../../../system/fault'

/** Why something could not be tried, or has failed where it was tried: it becomes the evidence of a check, and ends no command. */
export class Hindrance extends Fault {}
