import { testAttacks } from './attacks'

testAttacks('share')
