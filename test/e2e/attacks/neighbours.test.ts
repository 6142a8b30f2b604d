import { testAttacks } from './attacks'

testAttacks('neighbours')
