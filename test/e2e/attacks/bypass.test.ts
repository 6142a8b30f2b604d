import { testAttacks } from './attacks'

testAttacks('bypass')
