import { trials } from './trial'

trials('nftables', 'others')
