/**
 * Who may import whom. Imports go one way through the layers of packages/sdk, a layer is entered by its front door, and
 * the two servers cannot reach code that decrypts. Run by `npm run boundaries`, which also fails when a source file
 * was not looked at and which resolves workspace names to sources.
 */

/** From the bottom up. `crypto` stands on `wire`; every layer may use those before it. */
const LAYERS = [
  'wire',
  'crypto',
  'identity',
  'hosting',
  'discovery',
  'transport',
  'session',
  'messages',
  'observability',
  'agent',
]
const SDK = '^packages/sdk/src/'
const SHIPPED = '^(packages|apps)/[^/]+/src/'
/** Tests, and what only tests import. Neither is in the package. */
const TEST = '([.]test|/test-support[^/]*|/vector-[^/]*)[.]ts$'

const layerRules = LAYERS.slice(0, -1).map((layer, index) => ({
  name: `layer-${layer}-imports-down`,
  comment: `${layer} is below ${LAYERS.slice(index + 1).join(', ')}: what it needs from above is an interface it declares and is given.`,
  severity: 'error',
  from: { path: `${SDK}${layer}/` },
  to: { path: `${SDK}(${LAYERS.slice(index + 1).join('|')})/` },
}))

module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: 'known-layer',
      comment:
        'A folder of packages/sdk/src is one of the layers; a new one needs its place in the order first.',
      severity: 'error',
      from: { path: `${SDK}[^/]+/`, pathNot: `${SDK}(${LAYERS.join('|')})/` },
      to: {},
    },
    {
      name: 'layer-front-door',
      comment:
        'A layer is entered by its index.ts, so that everything else in it can change. crypto has two more doors, ' +
        'signing.ts and sealing.ts, for callers that must not reach the handshake and the ratchet; wire has one, ' +
        'errors.ts, for crypto, which needs no schemas.',
      severity: 'error',
      from: { path: `${SDK}([^/]+)/` },
      to: {
        path: `${SDK}[^/]+/`,
        pathNot: [
          `${SDK}$1/`,
          `${SDK}[^/]+/index[.]ts$`,
          `${SDK}crypto/(signing|sealing)[.]ts$`,
          `${SDK}wire/errors[.]ts$`,
          // For tests only: shipped-stays-shipped.
          '/test-support[^/]*[.]ts$',
        ],
      },
    },
    {
      name: 'sdk-index-is-the-top',
      comment: 'packages/sdk/src/index.ts gathers the layers; a layer that imports it imports upwards.',
      severity: 'error',
      from: { path: `${SDK}[^/]+/` },
      to: { path: `${SDK}index[.]ts$` },
    },
    {
      name: 'workspace-by-name',
      comment:
        'Another workspace is imported by its package name, so its exports decide what can be entered.',
      severity: 'error',
      from: { path: '^((packages|apps)/[^/]+)/' },
      to: { path: '^(packages|apps)/', pathNot: '^$1/', dependencyTypesNot: ['aliased'] },
    },
    {
      name: 'packages-below-apps',
      comment: 'Packages are libraries; an application is started, never imported by one.',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^apps/' },
    },
    {
      name: 'servers-stand-alone',
      comment: 'Each server runs alone. Only the command line, which can start both, imports them.',
      severity: 'error',
      from: { path: '^apps/(relay|registry)/', pathNot: TEST },
      to: { path: '^apps/', pathNot: '^apps/$1/' },
    },
    {
      name: 'server-doors',
      comment:
        'Servers use @agentmesh/sdk/wire, /identity, /hosting and /crypto/signing, nothing else of the sdk.',
      severity: 'error',
      from: { path: '^apps/(relay|registry)/', pathNot: TEST },
      to: { path: SDK, pathNot: `${SDK}(wire/index|identity/index|hosting/index|crypto/signing)[.]ts$` },
    },
    {
      name: 'servers-cannot-decrypt',
      comment:
        'No path of imports leads from a server to the handshake, the ratchet or an agent layer: that a relay cannot ' +
        'read messages follows from the code it consists of.',
      severity: 'error',
      from: { path: '^apps/(relay|registry)/src/', pathNot: TEST },
      to: {
        path: [
          `${SDK}crypto/(index|x3dh[^/]*|ratchet[^/]*)[.]ts$`,
          `${SDK}(discovery|transport|session|messages|observability|agent)/`,
        ],
        reachable: true,
      },
    },
    {
      name: 'libsodium-in-one-file',
      comment: 'One file calls the primitives, so an audit of how they are called reads one file.',
      severity: 'error',
      from: { path: SHIPPED, pathNot: ['^packages/sdk/src/crypto/primitives[.]ts$', TEST] },
      to: { path: 'node_modules/(libsodium|sodium-)' },
    },
    {
      name: 'no-other-crypto',
      comment:
        'node:crypto accepts forged Ed25519 signatures under small-order keys; keys, signatures, hashes and randomness ' +
        'come from the crypto layer. hosting/tls-files.ts reads the dates of a TLS certificate with it, and ' +
        'web-socket-upgrade.ts answers a handshake with the SHA-1 that RFC 6455 asks for, which keeps no secret.',
      severity: 'error',
      from: {
        path: SHIPPED,
        pathNot: [
          '^packages/sdk/src/crypto/',
          '^packages/sdk/src/hosting/tls-files[.]ts$',
          '^apps/relay/src/web-socket-upgrade[.]ts$',
          TEST,
        ],
      },
      to: { path: '^(node:)?crypto$', dependencyTypes: ['core'] },
    },
    {
      name: 'pure-core',
      comment:
        'wire and crypto run anywhere: clock, randomness, sockets and disk are passed in by their callers.',
      severity: 'error',
      from: { path: `${SDK}(wire|crypto)/`, pathNot: TEST },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'no-circular',
      comment: 'Two files that need each other are one file, or miss a third. Type imports count.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphans',
      comment: 'A source file that imports nothing and that nothing imports is dead.',
      severity: 'error',
      from: {
        orphan: true,
        path: SHIPPED,
        pathNot: [TEST, '[.]d[.]ts$', '/src/index[.]ts$'],
      },
      to: {},
    },
    {
      name: 'not-to-unresolvable',
      comment: 'An import that does not resolve cannot be judged by any other rule.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'declared-dependencies',
      comment:
        "Shipped code imports what its own package.json lists under dependencies, or a user's install lacks it.",
      severity: 'error',
      from: { path: SHIPPED, pathNot: [TEST, '^apps/dashboard/'] },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'no-built-code',
      comment: 'Sources and tests import sources: built files may be stale.',
      severity: 'error',
      from: { path: ['^(packages|apps)/[^/]+/src/', '^tests/'] },
      to: { path: '^(packages|apps)/[^/]+/dist/' },
    },
    {
      name: 'shipped-stays-shipped',
      comment: 'Shipped code does not import tests, benches, examples or tools: they are not in the package.',
      severity: 'error',
      from: { path: SHIPPED, pathNot: TEST },
      to: { path: ['^(tests|bench|examples|tools)/', TEST] },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '/dist/'] },
    tsPreCompilationDeps: true,
    moduleSystems: ['es6'],
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      extensions: ['.ts', '.tsx', '.mts', '.js', '.mjs', '.cjs', '.json', '.d.ts'],
    },
  },
}
