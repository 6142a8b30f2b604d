import { testAttacks } from './attacks'

testAttacks('injection')
