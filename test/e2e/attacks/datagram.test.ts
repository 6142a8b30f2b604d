import { testAttacks } from './attacks'

testAttacks('datagram')
