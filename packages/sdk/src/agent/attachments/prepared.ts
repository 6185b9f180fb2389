/** What an application says, with the files it names copied: manifests in place of sources. */
import type { AttachmentManifest } from '../../wire/index.ts'
import type { AnswerInput, RequestInput } from '../types.ts'

/** A request whose files were copied. */
export type PreparedRequest = Omit<RequestInput, 'attachments'> & { attachments?: AttachmentManifest[] }

/** An answer whose files were copied. */
export type PreparedAnswer =
  | Exclude<AnswerInput, { results: unknown }>
  | (Omit<Extract<AnswerInput, { results: unknown }>, 'attachments'> & { attachments?: AttachmentManifest[] })
