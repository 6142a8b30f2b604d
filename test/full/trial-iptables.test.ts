import { trials } from './trial'

// This machine has no nft, so that iptables has to do.
trials('iptables', 'machine')
