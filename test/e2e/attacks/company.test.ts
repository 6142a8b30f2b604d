import { testAttacks } from './attacks'

testAttacks('company')
