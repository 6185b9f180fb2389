/**
 * What the standard schemas share. Money is a decimal number beside its currency, as in the specification's samples;
 * everything is bounded, so that a value that passes is also one that can be worked with.
 */
import type { TProperties, TSchema } from 'typebox'
import { Type } from '../type.ts'
import { AmidText } from '../schema.ts'

export const MAX_AMOUNT = 1_000_000_000_000
const MAX_RESULTS = 100

interface Described {
  readonly description?: string
}

/** A line or more of text, never empty. */
export function Text(maxLength: number, description?: string) {
  return Type.String({ minLength: 1, maxLength, ...(description === undefined ? {} : { description }) })
}

export function CalendarDate(description: string) {
  return Type.String({ format: 'date', pattern: '^\\d{4}-\\d{2}-\\d{2}$', description })
}

export function DateTime(description: string) {
  return Type.String({
    format: 'date-time',
    pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,9})?(Z|[+-]\\d{2}:\\d{2})$',
    description: `${description}; RFC 3339 with Z or an offset`,
  })
}

export function ClockTime(description: string) {
  return Type.String({ pattern: '^([01][0-9]|2[0-3]):[0-5][0-9]$', description: `${description}; HH:MM` })
}

export function Count(minimum: number, maximum: number, description?: string) {
  return Type.Integer({ minimum, maximum, ...(description === undefined ? {} : { description }) })
}

export function Amount(description: string) {
  return Type.Number({ minimum: 0, maximum: MAX_AMOUNT, description })
}

export function List<T extends TSchema>(items: T, maxItems: number, options: Described = {}) {
  return Type.Array(items, { maxItems, ...options })
}

/** A list that says nothing twice. */
export function UniqueList<T extends TSchema>(items: T, maxItems: number, options: Described = {}) {
  return Type.Array(items, { maxItems, uniqueItems: true, ...options })
}

/** Results of a search: the best match first, none when there are none. */
export function Results<T extends TProperties>(
  item: T,
  options: { $id: string; title: string; description: string; examples: unknown[] },
) {
  return Type.Array(Type.Object(item), { maxItems: MAX_RESULTS, ...options })
}

export const Currency = Type.String({ pattern: '^[A-Za-z]{3}$', description: 'ISO 4217, in either case' })
export const Country = Type.String({ pattern: '^[A-Za-z]{2}$', description: 'ISO 3166-1 alpha-2' })
export const TimeZone = Type.String({
  pattern: '^[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,32}){0,2}$',
  description: 'IANA time zone, such as Europe/Berlin',
})
export const WebAddress = Type.String({ pattern: '^https://[^ ]{1,2040}$', description: 'An https address' })
export const MediaType = Type.String({
  pattern: '^[a-z0-9][a-z0-9.+-]{0,62}/[a-z0-9][a-z0-9.+-]{0,126}$',
  description: 'IANA media type, such as text/plain',
})
const EmailAddress = Type.String({
  pattern: '^[^@ ]{1,64}@[^@ ]{1,255}$',
  description: 'Mail address',
})
export const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256, lower-case hex' })
export const Name = Text(128)
export const Reference = Text(128, 'To name in what follows')
export const MaxResults = Type.Integer({ minimum: 1, maximum: MAX_RESULTS, default: 20 })

export const Coordinates = {
  latitude: Type.Number({ minimum: -90, maximum: 90 }),
  longitude: Type.Number({ minimum: -180, maximum: 180 }),
}

export const Address = Type.Object(
  {
    name: Type.Optional(Text(128, 'Who or what is there')),
    lines: Type.Optional(List(Text(128), 4, { description: 'Street and number' })),
    city: Type.Optional(Name),
    region: Type.Optional(Name),
    postal_code: Type.Optional(Text(16)),
    country: Country,
  },
  { description: 'A postal address' },
)

/** A person or an agent, and how to reach it. */
export function Party(description: string) {
  return Type.Object(
    {
      name: Type.Optional(Name),
      email: Type.Optional(EmailAddress),
      phone: Type.Optional(
        Type.String({
          pattern: '^\\+?[0-9 ()./-]{3,32}$',
          description: 'With country code where it is known',
        }),
      ),
      amid: Type.Optional(AmidText),
    },
    { minProperties: 1, description },
  )
}

export const Rating = Type.Object(
  {
    score: Type.Number({ minimum: 0, maximum: 10 }),
    scale: Type.Optional(Type.Number({ minimum: 1, maximum: 10, default: 5, description: 'The best score' })),
    count: Type.Optional(Count(0, 1_000_000_000, 'How many rated')),
  },
  { description: 'What others thought' },
)

/** Named values of a product or a lot that have no field of their own. */
export const Attributes = Type.Record(
  Type.String(),
  Type.Union([
    Type.String({ maxLength: 256 }),
    Type.Number({ minimum: -MAX_AMOUNT, maximum: MAX_AMOUNT }),
    Type.Boolean(),
  ]),
  { maxProperties: 64, description: 'Such as color: red' },
)

/** How a result can be turned into a deal. */
export const Booking = {
  booking_available: Type.Optional(Type.Boolean({ default: false })),
  booking_reference: Type.Optional(Text(128, 'To name in a booking request')),
  booking_action: Type.Optional(Text(256, 'How to book, in words')),
  booking_url: Type.Optional(WebAddress),
  offer_expires_at: Type.Optional(DateTime('The offer holds until then')),
}

export const PaymentMethods = UniqueList(
  Type.String({ pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$', description: 'Such as stripe' }),
  16,
  { description: 'Best first' },
)
export const PaymentMethodName = PaymentMethods.items
