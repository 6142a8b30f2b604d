import { testAttacks } from './attacks'

testAttacks('forgery')
