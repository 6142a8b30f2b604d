import { testAttacks } from './attacks'

testAttacks('fleet')
