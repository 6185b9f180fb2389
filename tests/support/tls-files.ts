/** TLS certificates for tests, made by openssl: a root to trust, and server certificates under it. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface TestCertificate {
  readonly certificate: string
  readonly key: string
}

export class TestRoot {
  readonly #folder: string
  readonly pem: string

  constructor(folder: string) {
    this.#folder = folder
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '30',
      '-subj',
      '/CN=Test root',
      '-keyout',
      this.#path('root.key'),
      '-out',
      this.#path('root.pem'),
    )
    this.pem = readFileSync(this.#path('root.pem'), 'utf8')
  }

  #path(name: string): string {
    return join(this.#folder, name)
  }

  /**
   * A pair for localhost and 127.0.0.1 in files of this name.
   *
   * @param until RFC 5280 UTCTime such as 251231235959Z; a month from today when not given
   */
  issue(name: string, { from, until }: { from?: string; until?: string } = {}): TestCertificate {
    const made = { certificate: this.#path(`${name}.pem`), key: this.#path(`${name}.key`) }
    const request = this.#path(`${name}.csr`)
    openssl(
      'req',
      '-new',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      made.key,
      '-out',
      request,
    )
    const names = this.#path(`${name}.ext`)
    writeFileSync(names, 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n')
    writeFileSync(this.#path('index.txt'), '')
    const settings = `[ca]
default_ca=x
[x]
database=${this.#path('index.txt')}
new_certs_dir=${this.#folder}
certificate=${this.#path('root.pem')}
private_key=${this.#path('root.key')}
rand_serial=yes
default_md=sha256
policy=p
[p]
commonName=supplied
`
    writeFileSync(this.#path('ca.cnf'), settings)
    openssl(
      'ca',
      '-batch',
      '-notext',
      '-config',
      this.#path('ca.cnf'),
      '-in',
      request,
      '-out',
      made.certificate,
      '-extfile',
      names,
      ...(from === undefined ? [] : ['-startdate', from]),
      ...(until === undefined ? ['-days', '30'] : ['-enddate', until]),
    )
    return made
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
