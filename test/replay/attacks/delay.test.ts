import { testAttacks } from './attacks'

testAttacks('delay')
