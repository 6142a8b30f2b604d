import knockdaemon from '../../../docs/systemd/knockdaemon.service'
import failOpen from '../../../docs/systemd/knockturn-fail-open.service'
import failOpenTimer from '../../../docs/systemd/knockturn-fail-open.timer'
import guard from '../../../docs/systemd/knockturn-guard.service'
import probe from '../../../docs/systemd/knockturn-probe.service'
import trial from '../../../docs/systemd/knockturn-trial.service'
import guarded from '../../../docs/systemd/nftables-guarded.conf'
import { GUARDED, type Templates } from '../../admin/setup/plan'

/** The units that a set-up writes where no package has put them, as docs/systemd has them. */
export const UNITS: Templates = {
  'knockdaemon.service': knockdaemon,
  'knockturn-guard.service': guard,
  'knockturn-probe.service': probe,
  'knockturn-fail-open.service': failOpen,
  'knockturn-fail-open.timer': failOpenTimer,
  'knockturn-trial.service': trial,
  [GUARDED]: guarded,
}
