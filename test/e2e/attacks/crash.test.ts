import { testAttacks } from './attacks'

testAttacks('crash')
