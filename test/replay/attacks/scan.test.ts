import { testAttacks } from './attacks'

testAttacks('scan')
