import type { Attack } from './attack'
import { attacks as cancel } from './cancel'
import { attacks as closing } from './closing'
import { attacks as crash } from './crash'
import { attacks as datagram } from './datagram'
import { attacks as delay } from './delay'
import { attacks as edge } from './edge'
import { attacks as expiry } from './expiry'
import { attacks as forgery } from './forgery'
import { attacks as injection } from './injection'
import { attacks as neighbours } from './neighbours'
import { attacks as passcode } from './passcode'
import { attacks as policy } from './policy'
import { attacks as replay } from './replay'
import { attacks as rubbish } from './rubbish'
import { attacks as scan } from './scan'
import { attacks as share } from './share'

/** Every attack that runs in one process, with clocks of its own. */
export const catalogue: readonly Attack[] = [
  ...replay,
  ...edge,
  ...expiry,
  ...crash,
  ...forgery,
  ...delay,
  ...scan,
  ...rubbish,
  ...cancel,
  ...injection,
  ...neighbours,
  ...closing,
  ...share,
  ...policy,
  ...datagram,
  ...passcode,
]
