import { testAttacks } from './attacks'

testAttacks('policy')
