import { testAttacks } from './attacks'

testAttacks('cancel')
