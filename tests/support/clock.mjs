/**
 * A clock that is off, for a program of its own: `node --import clock.mjs`, with AGENTMESH_TEST_CLOCK naming a symbolic link
 * to the number of milliseconds. It is looked at each time, which needs no file descriptor.
 */
import { readlinkSync } from 'node:fs'

const link = process.env['AGENTMESH_TEST_CLOCK']
const trueNow = Date.now
if (link !== undefined) Date.now = () => trueNow() + Number(readlinkSync(link))
