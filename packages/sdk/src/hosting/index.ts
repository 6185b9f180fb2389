/**
 * What relay and registry share in being run by somebody: configuration, TLS, clients behind proxies, start and end. Nothing of
 * the protocol is in here.
 */
export { optionNames, shown, valueText } from './command-line.ts'
export { addressKey, addressNetwork, clientAddress, TrustedAddresses } from './client-address.ts'
export { sharedChecks, sharedOptions, sharedSettings, type ServerOptions } from './shared-settings.ts'
export { logOptions, shortAmid } from './log-privacy.ts'
export { openOperatorPort, splitAddress, type OperatorPort } from './operator-port.ts'
export { problemsOf, runMain, serve, type RunningServer, type ServerProgram } from './serve.ts'
export { settingsOf, type ServerDefinition, type SettingsSchema } from './settings.ts'
export { Bytes, Count, defaultsOf, Milliseconds, RateLimit, Seconds } from './setting-kinds.ts'
export { listenerTls, readTlsPair, type ListenerTls, type TlsFiles } from './tls-files.ts'
