/** Writes the tables of docs/scaling.md, which are those of bench/scaling.mjs. */
import { tables } from '../bench/scaling.mjs'
import { insertTables } from './insert-tables.mjs'

await insertTables('docs/scaling.md', tables())
