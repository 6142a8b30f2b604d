import { testAttacks } from './attacks'

testAttacks('flood')
