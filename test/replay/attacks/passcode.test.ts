import { testAttacks } from './attacks'

testAttacks('passcode')
