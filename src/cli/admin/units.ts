import knockdaemon from '../../../docs/systemd/knockdaemon.service'
import guard from '../../../docs/systemd/knockturn-guard.service'
import trial from '../../../docs/systemd/knockturn-trial.service'
import guarded from '../../../docs/systemd/nftables-guarded.conf'
import { GUARDED, type Templates } from '../../admin/setup/plan'

/** The units that a set-up writes where no package has put them, as docs/systemd has them. */
export const UNITS: Templates = {
  'knockdaemon.service': knockdaemon,
  'knockturn-guard.service': guard,
  'knockturn-trial.service': trial,
  [GUARDED]: guarded,
}
