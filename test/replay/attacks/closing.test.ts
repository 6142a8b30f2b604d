import { testAttacks } from './attacks'

testAttacks('closing')
