import { testAttacks } from './attacks'

testAttacks('replay')
