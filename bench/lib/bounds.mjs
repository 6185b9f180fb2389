/** What a durable message cannot do without, measured bare: its cryptography, and a write that is forced to the disk. */
import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import sodium from 'libsodium-wrappers-sumo'
import { median } from './measure.mjs'

await sodium.ready

/**
 * Milliseconds of each call.
 * @param {number} count
 * @param {(n: number) => unknown} call
 */
export async function timed(count, call) {
  const times = []
  for (let n = 0; n < count; n++) {
    const before = performance.now()
    await call(n)
    times.push(performance.now() - before)
  }
  return times
}

/** Milliseconds of signing, checking, sealing and opening 256 bytes. */
export async function messageBound() {
  const { privateKey, publicKey } = sodium.crypto_sign_keypair()
  const key = sodium.randombytes_buf(32)
  const nonce = sodium.randombytes_buf(24)
  const body = sodium.randombytes_buf(256)
  const times = await timed(500, () => {
    const signature = sodium.crypto_sign_detached(body, privateKey)
    const sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(body, signature, null, nonce, key)
    const opened = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, sealed, signature, nonce, key)
    if (!sodium.crypto_sign_verify_detached(signature, opened, publicKey)) throw new Error('does not verify')
  })
  return median(times.slice(100))
}

/** Milliseconds of writing a page and forcing it to the disk the homes are on. @param {string} folder */
export async function syncBound(folder) {
  const file = openSync(join(folder, 'sync'), 'w')
  const page = new Uint8Array(4096)
  const times = await timed(200, (n) => {
    writeSync(file, page, 0, page.length, n * page.length)
    fdatasyncSync(file)
  })
  closeSync(file)
  return median(times)
}
