export * from './wire/errors.ts'
