import { testAttacks } from './attacks'

testAttacks('edge')
