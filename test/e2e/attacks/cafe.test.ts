import { testAttacks } from './attacks'

testAttacks('cafe')
