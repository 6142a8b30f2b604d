import type { Evidence } from '../../src/client/evidence'

/** What the eight touches of a knock in vain have shown. */
export const SILENT = Array<string>(8).fill('silence')

/** A knock for port 22 that was sent well, and of which nothing has come back. */
export const SILENCE: Evidence = {
  host: 'gate.example',
  opened: [],
  services: new Map([[22, 'silence']]),
  datagram: undefined,
  udp: false,
  pace: 0,
  knocked: SILENT,
  seen: new Set(['silence']),
  period: 30,
  clock: null,
  timeOffset: 0,
  named: null,
  ended: null,
  mayTry4: false,
}
