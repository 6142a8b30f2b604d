/* Where a set-up puts what it makes, and nothing else. bin/knockturn-trial has these paths, too: it keeps them as they were. */

/** The daemon's user. */
export const USER = 'knockturn'
/** Folder of the config and the saved guard. */
export const CONFIG_FOLDER = '/etc/knockturn'
/** Folder of the ledger. */
export const STATE_FOLDER = '/var/lib/knockturn'
/** Where units of an administrator's lie, and those of packages. */
export const OWN_UNITS = '/etc/systemd/system'
export const PACKAGED_UNITS = ['/usr/lib/systemd/system', '/lib/systemd/system'] as const
/** The log of a daemon that no systemd has started. */
export const LOG = '/var/log/knockdaemon.log'
